"""Live curves: while `finetune` trains, its events are copied into an MLflow run. Best effort: it never fails anything.

    with mirror_curves(config):
        reproduce("finetune")

What it misses, `register` adds from data/model/curves.jsonl.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.errors import StropError

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.tracking.registry import Registry
    from tasks.tracking.runs import Point

EVENTS_FILE = paths.EVENTS / "finetune.jsonl"
LOOK_EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
WEIGHTS_TAG = "strop.weights"
TRIAL_TAG = "strop.trial"
"""Run of the candidate / number of the trial."""
TRIAL_STATE_TAG = "strop.trial_state"
PARENT_TAG = "mlflow.parentRunId"


@contextlib.contextmanager
def mirror_curves(config: PipelineConfig) -> Iterator[None]:
    """Copies the events of a training within the block; with no training there is no run."""
    with contextlib.suppress(OSError):
        EVENTS_FILE.unlink(missing_ok=True)  # those of an earlier training
    mirror = _Mirror(config)
    thread = threading.Thread(target=mirror.follow, daemon=True, name="mirror")
    thread.start()
    outcome = "KILLED"  # by whatever is no mistake: Ctrl-C, SIGTERM
    try:
        yield
        outcome = "FINISHED"
    except Exception:
        outcome = "FAILED"
        raise
    finally:
        mirror.outcome = outcome
        mirror.is_over.set()
        thread.join(PATIENCE_SECONDS)


def read_points(path: Path) -> list[Point]:
    """The points of a curves or events file: each number but the step, by name."""
    points: list[Point] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            points += points_of(line)
    return points


def points_of(line: str) -> list[Point]:
    from tasks.tracking.runs import Point

    try:
        event: dict[str, Any] = json.loads(line)
        step = int(event["step"])
    except (ValueError, KeyError, TypeError):
        return []
    others = {k: v for k, v in event.items() if k not in ("step", "trial", "before")}
    numbers = {k: v for k, v in others.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    # a training before the last begins at the first step, too, and has curves of its own
    whose = f"before-{event['before']}" if "before" in event else "train"
    return [Point(f"{whose}/{name}", float(value), step) for name, value in numbers.items()]


def trial_of(line: str) -> int | None:
    """The number of the trial that an event is of; None for one of no search."""
    try:
        number = json.loads(line).get("trial")
    except (ValueError, AttributeError):
        return None
    return int(number) if isinstance(number, int) else None


def trial_name(number: int) -> str:
    """What the run of a trial is called."""
    return f"trial {number + 1}"


class _Mirror:
    """Follows the events file in a thread; opens the registry when the first event comes."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self.is_over = threading.Event()
        self.outcome = "FINISHED"
        self.was_interrupted = False
        self._offset = 0
        self._registry: Registry | None = None
        self._run_id = ""
        self._trials: dict[int, str] = {}
        """The runs of a search's trials, by number."""

    def follow(self) -> None:
        try:
            while True:
                was_over = self.is_over.wait(LOOK_EVERY_SECONDS)
                self._copy(self._new_lines())
                if was_over:
                    break
            self._end()
        except (StropError, OSError) as error:
            # the training goes on, and register completes the run from files
            print(f"mirror: live curves stop here ({error})", flush=True)

    def _new_lines(self) -> list[str]:
        if not EVENTS_FILE.exists():
            return []
        with EVENTS_FILE.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # a new training began
                self._offset = 0
            file.seek(self._offset)
            whole, found, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(found)
        return whole.decode("utf-8", "replace").splitlines()

    def _copy(self, lines: list[str]) -> None:
        self.was_interrupted = self.was_interrupted or any('"interrupted": true' in line for line in lines)
        by_trial: dict[int | None, list[Point]] = {}
        for line in lines:
            by_trial.setdefault(trial_of(line), []).extend(points_of(line))
        for trial, points in by_trial.items():
            if points:
                registry = self._opened()
                registry.log_points(self._run_id if trial is None else self._run_of(trial), points)

    def _opened(self) -> Registry:
        if self._registry is None:
            from tasks.tracking.registry import open_registry

            self._registry = open_registry(self.config)
            self._run_id = self._registry.create_run("finetune", {"strop.state": "live"})
        return self._registry

    def _run_of(self, trial: int) -> str:
        """The run of a trial, beneath the training's."""
        if trial not in self._trials:
            tags = {PARENT_TAG: self._run_id, TRIAL_TAG: f"{self._run_id}/{trial}", "strop.state": "live"}
            self._trials[trial] = self._opened().create_run(trial_name(trial), tags)
        return self._trials[trial]

    def _end(self) -> None:
        """Names the weights that came of it, so that `register` finds the run."""
        if self._registry is None:
            return
        if self.outcome == "FINISHED":
            self._registry.tag_run(self._run_id, {WEIGHTS_TAG: weights_digest(paths.MODEL)})
        outcome = "KILLED" if self.was_interrupted else self.outcome
        for run_id in (*self._trials.values(), self._run_id):
            self._registry.end_run(run_id, outcome)
