"""Progress of a running training: the progress line, the events that the flow mirrors into MLflow, and the curves."""

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

NOT_IN_CURVES = ("epoch", "step", "total_flos", "train_loss", "num_tokens")
"""Values in the Trainer's log that derive from others, or differ in an interrupted training; and the timings:"""
TIMINGS = ("_runtime", "_per_second", "_time")
WINDOW = 10
"""Steps of the moving mean by which an exploding loss is detected ..."""
EXPLODED_BY = 2.0
"""... when that mean is this many nats above twice its minimum (for a loss below 0: above 0)."""
MAX_ROWS_SHOWN = 8


class CountingCollator:
    """Wraps a data collator and counts padding and the prompt tokens that are not repeated."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate
        self.positions = self.tokens = self.repeated = 0
        self._training_counts = (0, 0, 0)

    def __call__(self, rows: list[Any]) -> Any:
        batch = self.collate(rows)
        if isinstance(batch, Mapping):
            for name in batch:
                if name.endswith("input_ids"):
                    mask, positions = batch.get(name.replace("input_ids", "attention_mask")), batch[name].numel()
                    self.positions += positions
                    self.tokens += positions if mask is None else int(mask.sum())
            self.repeated += repeated_tokens(batch["cu_seq_lens_q"]) if "cu_seq_lens_q" in batch else 0
        return batch

    def commit(self) -> None:
        """Marks all counts so far as training counts."""
        self._training_counts = (self.positions, self.tokens, self.repeated)

    def discard(self) -> None:
        """Drops the counts since the last commit, which belong to an evaluation."""
        self.positions, self.tokens, self.repeated = self._training_counts

    @property
    def padding_share(self) -> float | None:
        """Share of padding so far; None where batches hold no tokens (GRPO generates them itself)."""
        return 1 - self.tokens / self.positions if self.positions else None

    @property
    def repeated_share(self) -> float:
        """Share of the tokens that belong to prompts already computed for another example."""
        return self.repeated / (self.tokens + self.repeated) if self.repeated else 0.0


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Reports loss and speed at each step, and stops a training whose loss is not finite or explodes.

    Args:
        row_ids: returns the row ids of the last step's batch.
        checkpoint_before: returns the newest intact checkpoint up to a step.
        counter: counts padding and shared prompts.
        base_error: returns an error of the base's own weights; called where loss or gradient is not finite.
    """

    def __init__(
        self,
        progress: Progress,
        tokens_per_step: float,
        row_ids: Callable[[], list[str]] = list,
        checkpoint_before: Callable[[int], Path | None] = lambda step: None,
        counter: CountingCollator | None = None,
        base_error: Callable[[], BaseModelError | None] = lambda: None,
    ) -> None:
        self.base_error = base_error
        self.progress = progress
        self.tokens_per_step = tokens_per_step
        self.row_ids = row_ids
        self.checkpoint_before = checkpoint_before
        self.counter = counter
        self.last: tuple[int, float] | None = None
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._best = math.inf
        self._speeds: list[float] = []
        self._generated_tokens: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """The median over the steps, which ignores a slow first step or a pause."""
        return statistics.median(self._speeds) if self._speeds else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last = (state.global_step, time.monotonic())
        for entry in state.log_history:  # of a resumed training, whose loss may already explode
            self._update_mean(float(entry.get("loss", math.nan)))
        self._generated_tokens = 0.0 if state.global_step == 0 else None
        self.progress.resume(state.global_step * self.tokens_per_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        point = curve_point(state.global_step, logs or {})
        self._require_stable(point)
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
        """Tokens since the previous step. Where batches hold no tokens, the trainer counts the generated ones."""
        if "num_tokens" not in logs or (self.counter is not None and self.counter.tokens):
            return planned
        before, self._generated_tokens = self._generated_tokens, logs["num_tokens"]
        return planned if before is None else self._generated_tokens - before

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.counter is not None:
            self.counter.commit()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.counter is not None:
            self.counter.discard()

    def _shares(self) -> dict[str, float]:
        if self.counter is None or self.counter.padding_share is None:
            return {}
        repeated = self.counter.repeated_share
        return {"padding_share": self.counter.padding_share} | ({"shared_prompt_share": repeated} if repeated else {})

    def _require_stable(self, point: dict[str, float]) -> None:
        """Checks loss and gradient before a checkpoint is written.

        Raises:
            BaseModelError: loss or gradient is not finite because the base's weights are not.
            TrainingError: loss or gradient is not finite, or the loss explodes.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite(point.get(name, 0.0)):
                if (error := self.base_error()) is not None:
                    raise error
                self._stop(f"the {name.replace('grad_norm', 'gradient norm')} is {point[name]}", point)
        if "loss" in point:
            mean = self._update_mean(point["loss"])
            if mean > self._best + abs(self._best) + EXPLODED_BY:
                self._stop(f"the loss exploded: from {self._best:.3g} to {mean:.3g} over {WINDOW} steps", point, WINDOW)

    def _update_mean(self, loss: float) -> float:
        """The mean loss of the last steps; NaN while there are too few."""
        if math.isnan(loss):
            return math.nan
        self._losses.append(loss)
        if len(self._losses) < WINDOW:
            return math.nan
        mean = sum(self._losses) / WINDOW
        self._best = min(self._best, mean)
        return mean

    def _stop(self, what: str, point: dict[str, float], since: int = 0) -> None:
        """Raises TrainingError for a problem that may have begun `since` steps ago."""
        rows, checkpoint = self.row_ids(), self.checkpoint_before(int(point["step"]) - since)
        more = len(rows) - MAX_ROWS_SHOWN
        shown = ", ".join(rows[:MAX_ROWS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        parts = [f"{what} at step {int(point['step'])}"]
        parts += [f"rows of its batch: {shown}"] if rows else []
        parts += [f"the last good checkpoint is {checkpoint}"] if checkpoint else []
        raise TrainingError(
            "; ".join(parts),
            where="finetune",
            fix="Inspect them (strop rows why ID), lower finetune.learning_rate, or set finetune.precision: fp32",
        )


def _memory() -> dict[str, float]:
    """Peak memory in GB: of the process, and of the GPU if there is one."""
    import torch

    peaks = {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    if torch.cuda.is_available():
        peaks["gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return peaks


def curve_point(step: int, logs: dict[str, float]) -> dict[str, float]:
    """A log entry of the Trainer as a point of the curves: losses and the metrics of the objective."""
    point = {}
    for name, value in logs.items():
        if name.removeprefix("eval_") in NOT_IN_CURVES or name.endswith(TIMINGS) or not isinstance(value, int | float):
            continue
        name = f"valid_{name.removeprefix('eval_')}" if name.startswith("eval_") else name
        # other metrics are left out where they could not be measured
        if name in ("loss", "grad_norm") or math.isfinite(value):
            point[name] = float(value)
    return {"step": step, **point}


def write_curves(path: Path, history: list[dict[str, float]]) -> None:
    """The curves of a finished training as JSON lines, without timings, so that equal trainings give equal bytes."""
    points = [curve_point(int(entry["step"]), entry) for entry in history]
    write_text(path, "".join(canonical_json(point) + "\n" for point in points if len(point) > 1))
