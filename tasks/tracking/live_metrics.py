"""Live curves: while `finetune` trains, its events are copied into an MLflow run. Best effort: a failure here stops nothing.

    with mirror_curves(config):
        reproduce("finetune")

`register` adds missing points from data/model/curves.jsonl.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.errors import StropError
from tasks.tracking.tags import PARENT_TAG, STATE_TAG, TRIAL_TAG, WEIGHTS_TAG

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.tracking.registry import Registry
    from tasks.tracking.runs import Point

logger = logging.getLogger(__name__)

EVENTS_FILE = paths.EVENTS / "finetune.jsonl"
POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 10.0


@contextlib.contextmanager
def mirror_curves(config: PipelineConfig) -> Iterator[None]:
    """Copies the events of a training that runs within the block; without a training there is no run."""
    with contextlib.suppress(OSError):
        EVENTS_FILE.unlink(missing_ok=True)  # the events of an earlier training
    mirror = _Mirror(config)
    thread = threading.Thread(target=mirror.follow, daemon=True, name="mirror")
    thread.start()
    outcome = "KILLED"  # by Ctrl-C or SIGTERM
    try:
        yield
        outcome = "FINISHED"
    except Exception:
        outcome = "FAILED"
        raise
    finally:
        mirror.outcome = outcome
        mirror.is_over.set()
        thread.join(TIMEOUT_SECONDS)


def read_points(path: Path) -> list[Point]:
    """The points of a curves or events file: every number except the step, by name."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [point for line in lines for point in points_of(line)]


def points_of(line: str) -> list[Point]:
    from tasks.tracking.runs import Point

    try:
        event: dict[str, Any] = json.loads(line)
        step = int(event["step"])
    except (ValueError, KeyError, TypeError):
        return []
    # an earlier training of a sequence also begins at step 1, and has curves of its own
    prefix = f"before-{event['before']}" if "before" in event else "train"
    return [
        Point(f"{prefix}/{name}", float(value), step)
        for name, value in event.items()
        if name not in ("step", "trial", "before") and isinstance(value, int | float) and not isinstance(value, bool)
    ]


def trial_of(line: str) -> int | None:
    """The number of the trial that an event belongs to; None outside of a search."""
    try:
        number = json.loads(line).get("trial")
    except (ValueError, AttributeError):
        return None
    return int(number) if isinstance(number, int) else None


def trial_name(number: int) -> str:
    """The name of a trial's run."""
    return f"trial {number + 1}"


class _Mirror:
    """Reads new lines of the events file in a thread; opens the registry at the first event."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self.is_over = threading.Event()
        self.outcome = "FINISHED"
        self.was_interrupted = False
        self._offset = 0
        self._registry: Registry | None = None
        self._run_id = ""
        self._trials: dict[int, str] = {}
        """The runs of a search's trials, by trial number."""

    def follow(self) -> None:
        try:
            while True:
                was_over = self.is_over.wait(POLL_SECONDS)
                self._copy(self._new_lines())
                if was_over:
                    break
            self._end()
        except (StropError, OSError) as error:
            # the training continues, and register completes the run from files
            logger.warning(f"mirror: live curves stop here ({error})")

    def _new_lines(self) -> list[str]:
        if not EVENTS_FILE.exists():
            return []
        with EVENTS_FILE.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # a new training began
                self._offset = 0
            file.seek(self._offset)
            lines, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(lines) + len(newline)
        return lines.decode("utf-8", "replace").splitlines()

    def _copy(self, lines: list[str]) -> None:
        self.was_interrupted = self.was_interrupted or any('"interrupted": true' in line for line in lines)
        by_trial: dict[int | None, list[Point]] = {}
        for line in lines:
            by_trial.setdefault(trial_of(line), []).extend(points_of(line))
        for trial, points in by_trial.items():
            if points:
                registry = self._open()
                registry.log_points(self._run_id if trial is None else self._run_of(trial), points)

    def _open(self) -> Registry:
        if self._registry is None:
            from tasks.tracking.registry import open_registry

            self._registry = open_registry(self.config)
            self._run_id = self._registry.create_run("finetune", {STATE_TAG: "live"})
        return self._registry

    def _run_of(self, trial: int) -> str:
        """The run of a trial, a child of the training's run."""
        if trial not in self._trials:
            tags = {PARENT_TAG: self._run_id, TRIAL_TAG: f"{self._run_id}/{trial}", STATE_TAG: "live"}
            self._trials[trial] = self._open().create_run(trial_name(trial), tags)
        return self._trials[trial]

    def _end(self) -> None:
        """Tags the run with the digest of the trained weights, so that `register` finds it."""
        if self._registry is None:
            return
        if self.outcome == "FINISHED":
            self._registry.tag_run(self._run_id, {WEIGHTS_TAG: weights_digest(paths.MODEL)})
        outcome = "KILLED" if self.was_interrupted else self.outcome
        for run_id in (*self._trials.values(), self._run_id):
            self._registry.end_run(run_id, outcome)
