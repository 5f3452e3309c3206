"""Progress of a stage: a progress bar on a terminal, else a log line every ten seconds; and an events file.

    with track("evaluate", total=120, unit="rows") as progress:
        progress.advance(16, loss=0.31)

The flow copies the events file (.strop/events/<stage>.jsonl) to MLflow; it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks import paths
from tasks.runtime.logs.setup import bar_console

PLAIN_LINE_EVERY_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    stage: str
    total: float
    unit: str
    marks: dict[str, Any] = field(default_factory=dict)
    """Added to every event."""
    is_visible: bool = True
    """False: nothing is logged or written, as in all ranks but rank 0."""
    done: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    before: float = 0.0
    """The part of `done` that an earlier process did."""
    _bar: Any = None
    _task: Any = None
    _last_line: float = 0.0

    def advance(self, amount: float, **facts: float) -> None:
        """Adds `amount` units done; `facts` (loss, tokens_per_second, ...) are shown next to the bar."""
        self.done += amount
        self.facts.update(facts)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, facts=self._rate_and_metrics())
        elif self.is_visible and time.monotonic() - self._last_line >= PLAIN_LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            self._log(self._time_left())

    def event(self, **facts: Any) -> None:
        """Appends a line to the stage's events file; a write error does not fail the stage."""
        if not self.is_visible:
            return
        with contextlib.suppress(OSError), (paths.EVENTS / f"{self.stage}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**facts, **self.marks}) + "\n")

    def resume(self, done: float) -> None:
        """Starts with the work of an earlier process: it counts as done, but not for the rate."""
        self.done = self.before = done

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the rate; None in the first seconds."""
        is_known = self.done > self.before and time.monotonic() - self.started >= PLAIN_LINE_EVERY_SECONDS
        return max(self.total - self.done, 0.0) / self.rate if is_known else None

    def _log(self, time_left: str = "") -> None:
        line = f"{self.stage}: {self.done:,.0f}/{self.total:,.0f} {self.unit}{self._rate_and_metrics()}{time_left}"
        fields = {"stage": self.stage, "done": self.done, "total": self.total, "unit": self.unit}
        logger.info(line, extra=fields)

    def _rate_and_metrics(self) -> str:
        rate = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.1f}"
        facts = "".join(f" · {name.replace('_', ' ')} {value:,.4g}" for name, value in self.facts.items())
        return f" · {rate} {self.unit}/s{facts}"

    def _time_left(self) -> str:
        seconds = self.seconds_left
        if not seconds:
            return ""
        return f" · {seconds:.0f} s left" if seconds < 90 else f" · {seconds / 60:.0f} min left"


@contextlib.contextmanager
def track(
    stage: str, total: float, unit: str, marks: dict[str, Any] | None = None, is_visible: bool = True
) -> Iterator[Progress]:
    """Shows the progress of `total` units of work in `stage`."""
    progress = Progress(stage, total, unit, marks or {}, is_visible)
    if not is_visible:
        yield progress
        return
    with contextlib.suppress(OSError):
        paths.EVENTS.mkdir(parents=True, exist_ok=True)
        (paths.EVENTS / f"{stage}.jsonl").write_text("")
    console = bar_console()
    if console is None:
        yield progress
        progress._log()
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    with Bar(*columns, TextColumn("{task.fields[facts]}"), TimeRemainingColumn(), console=console) as bar:
        progress._bar = bar
        progress._task = bar.add_task(stage, total=total, facts="")
        yield progress
