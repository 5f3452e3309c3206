"""What training tells while it runs: the progress line, the events that the flow mirrors into MLflow, and the curves."""

from __future__ import annotations

import math
import resource
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tasks.errors import TrainingError
from tasks.files import canonical_json, write_text
from tasks.progress import Progress

CURVES = ("loss", "valid_loss", "learning_rate", "grad_norm")


class Tell(TrainerCallback):  # type: ignore[misc]
    """Shows loss and speed at every step, and stops a training whose loss is no number."""

    def __init__(self, progress: Progress, tokens_per_step: float) -> None:
        self.progress = progress
        self.tokens_per_step = tokens_per_step
        self.last: tuple[int, float] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last = (state.global_step, time.monotonic())
        self.progress.done = state.global_step * self.tokens_per_step  # a resumed training begins where it was

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        point = curve_point(state.global_step, logs or {})
        if not math.isfinite(point.get("loss", 0.0)):
            raise TrainingError(
                f"the loss is {point['loss']} at step {state.global_step}",
                where="finetune",
                fix="Lower finetune.learning_rate, or set finetune.precision: fp32",
            )
        if "loss" in point and self.last is not None:
            step, now = state.global_step, time.monotonic()
            tokens = (step - self.last[0]) * self.tokens_per_step
            speed = tokens / max(now - self.last[1], 1e-9)
            self.last = (step, now)
            self.progress.advance(tokens, loss=point["loss"])
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            self.progress.event(**point, tokens_per_second=speed, memory_gb=memory)
        elif "valid_loss" in point:
            self.progress.facts["valid_loss"] = point["valid_loss"]
            self.progress.event(**point)


def curve_point(step: int, logs: dict[str, float]) -> dict[str, float]:
    """A log entry of the Trainer as a point of the curves."""
    named = {"valid_loss" if name == "eval_loss" else name: value for name, value in logs.items()}
    return {"step": step, **{name: float(named[name]) for name in CURVES if name in named}}


def write_curves(path: Path, history: list[dict[str, float]]) -> None:
    """The curves of a finished training, a JSON object a line; no timings, so that equal trainings give equal bytes."""
    points = [curve_point(int(entry["step"]), entry) for entry in history]
    write_text(path, "".join(canonical_json(point) + "\n" for point in points if len(point) > 1))
