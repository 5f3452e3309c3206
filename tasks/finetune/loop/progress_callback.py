"""What training tells while it runs: the progress line, the events that the flow mirrors into MLflow, and the curves."""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tasks.errors import BaseModelError, TrainingError
from tasks.finetune.step.shared_prefix import repeated_tokens
from tasks.runtime.files import canonical_json, write_text
from tasks.runtime.progress import Progress

NO_CURVES = ("epoch", "step", "total_flos", "train_loss", "num_tokens")
"""Numbers that the Trainer logs, but follow from others, or would differ in a training that was interrupted; and timings:"""
TIMINGS = ("_runtime", "_per_second", "_time")
WINDOW = 10
"""Steps over whose mean a loss is judged to explode ..."""
EXPLODED_BY = 2.0
"""... when it is this many nats above twice the lowest such mean (a loss below 0: above 0)."""
SHOWN_ROWS = 8


class CountTokens:
    """A data collator that counts how much of what the one inside gives is padding, and how much of the prompts was left out."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate
        self.places = self.tokens = self.repeated = 0
        self._of_training = (0, 0, 0)

    def __call__(self, rows: list[Any]) -> Any:
        batch = self.collate(rows)
        if isinstance(batch, Mapping):
            for name in batch:
                if name.endswith("input_ids"):
                    mask, places = batch.get(name.replace("input_ids", "attention_mask")), batch[name].numel()
                    self.places += places
                    self.tokens += places if mask is None else int(mask.sum())
            self.repeated += repeated_tokens(batch["cu_seq_lens_q"]) if "cu_seq_lens_q" in batch else 0
        return batch

    def keep(self) -> None:
        """All that was counted so far is of training."""
        self._of_training = (self.places, self.tokens, self.repeated)

    def forget(self) -> None:
        """What was counted since then is of an evaluation."""
        self.places, self.tokens, self.repeated = self._of_training

    @property
    def padding_share(self) -> float | None:
        """Padding over all, so far; None where the batches hold no tokens yet (GRPO writes them itself)."""
        return 1 - self.tokens / self.places if self.places else None

    @property
    def repeated_share(self) -> float:
        """Of the examples' tokens, those of prompts that were computed for another example already."""
        return self.repeated / (self.tokens + self.repeated) if self.repeated else 0.0


class Tell(TrainerCallback):  # type: ignore[misc]
    """Shows loss and speed at every step, and stops a training whose loss is no number, or explodes.

    Args:
        rows: the ids of the rows of the last step's batch.
        good: the newest whole checkpoint up to a step.
        counted: counts padding and shared prompts.
        base_fault: what is wrong with the base's own weights; asked where loss or gradient is no number.
    """

    def __init__(
        self,
        progress: Progress,
        tokens_per_step: float,
        rows: Callable[[], list[str]] = list,
        good: Callable[[int], Path | None] = lambda step: None,
        counted: CountTokens | None = None,
        base_fault: Callable[[], BaseModelError | None] = lambda: None,
    ) -> None:
        self.base_fault = base_fault
        self.progress = progress
        self.tokens_per_step = tokens_per_step
        self.rows = rows
        self.good = good
        self.counted = counted
        self.last: tuple[int, float] | None = None
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._best = math.inf
        self._speeds: list[float] = []
        self._answered: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """The median over the steps, so that neither the first nor a pause counts."""
        return statistics.median(self._speeds) if self._speeds else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last = (state.global_step, time.monotonic())
        for entry in state.log_history:  # of a training that goes on, which may have begun to explode
            self._watch(float(entry.get("loss", math.nan)))
        self._answered = 0.0 if state.global_step == 0 else None
        self.progress.resume(state.global_step * self.tokens_per_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        point = curve_point(state.global_step, logs or {})
        self._require_sound(point)
        if "loss" in point and self.last is not None:
            step, now = state.global_step, time.monotonic()
            tokens = (step - self.last[0]) * self.tokens_per_step
            speed = self._trained_tokens(tokens, logs or {}) / max(now - self.last[1], 1e-9)
            self.last = (step, now)
            self._speeds.append(speed)
            self.progress.advance(tokens, loss=point["loss"])
            self.progress.event(**point, tokens_per_second=speed, **_memory(), **self._shares())
        elif "valid_loss" in point:
            self.progress.facts["valid_loss"] = point["valid_loss"]
            self.progress.event(**point)

    def _trained_tokens(self, planned: float, logs: dict[str, float]) -> float:
        """Since the step before. Where batches hold no tokens yet, the trainer counts the answers that were made."""
        if "num_tokens" not in logs or (self.counted is not None and self.counted.tokens):
            return planned
        before, self._answered = self._answered, logs["num_tokens"]
        return planned if before is None else self._answered - before

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.counted is not None:
            self.counted.keep()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.counted is not None:
            self.counted.forget()

    def _shares(self) -> dict[str, float]:
        if self.counted is None or self.counted.padding_share is None:
            return {}
        repeated = self.counted.repeated_share
        return {"padding_share": self.counted.padding_share} | ({"shared_prompt_share": repeated} if repeated else {})

    def _require_sound(self, point: dict[str, float]) -> None:
        """Before a checkpoint of it is written.

        Raises:
            BaseModelError: loss or gradient is no number, and neither are the base's weights.
            TrainingError: loss or gradient is no number, or the loss is far above where it was.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite(point.get(name, 0.0)):
                if (fault := self.base_fault()) is not None:
                    raise fault
                self._stop(f"the {name.replace('grad_norm', 'gradient norm')} is {point[name]}", point)
        if "loss" in point:
            mean = self._watch(point["loss"])
            if mean > self._best + abs(self._best) + EXPLODED_BY:
                self._stop(f"the loss exploded: from {self._best:.3g} to {mean:.3g} over {WINDOW} steps", point, WINDOW)

    def _watch(self, loss: float) -> float:
        """The mean loss of the last steps; no number while there are too few."""
        if math.isnan(loss):
            return math.nan
        self._losses.append(loss)
        if len(self._losses) < WINDOW:
            return math.nan
        mean = sum(self._losses) / WINDOW
        self._best = min(self._best, mean)
        return mean

    def _stop(self, what: str, point: dict[str, float], since: int = 0) -> None:
        """Tells what is wrong, maybe for some steps."""
        rows, good = self.rows(), self.good(int(point["step"]) - since)
        shown = ", ".join(rows[:SHOWN_ROWS]) + (f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else "")
        told = [f"{what} at step {int(point['step'])}"]
        told += [f"its batch was of the rows {shown}"] if rows else []
        told += [f"the last good checkpoint is {good}"] if good else []
        raise TrainingError(
            "; ".join(told),
            where="finetune",
            fix="Look at them (strop rows why ID), lower finetune.learning_rate, or set finetune.precision: fp32",
        )


def _memory() -> dict[str, float]:
    """Peaks, in GB: of the process, and of the GPU where there is one."""
    import torch

    found = {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    if torch.cuda.is_available():
        found["gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def curve_point(step: int, logs: dict[str, float]) -> dict[str, float]:
    """A log entry of the Trainer as a point of the curves: its losses, and whatever numbers its objective measures."""
    point = {}
    for name, value in logs.items():
        if name.removeprefix("eval_") in NO_CURVES or name.endswith(TIMINGS) or not isinstance(value, int | float):
            continue
        name = f"valid_{name.removeprefix('eval_')}" if name.startswith("eval_") else name
        if name in ("loss", "grad_norm") or math.isfinite(
            value
        ):  # of the others, one that could not be measured is left out
            point[name] = float(value)
    return {"step": step, **point}


def write_curves(path: Path, history: list[dict[str, float]]) -> None:
    """The curves of a finished training, a JSON object a line; no timings, so that equal trainings give equal bytes."""
    points = [curve_point(int(entry["step"]), entry) for entry in history]
    write_text(path, "".join(canonical_json(point) + "\n" for point in points if len(point) > 1))
