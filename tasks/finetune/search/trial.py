"""A trial of a search: a training whose validation losses are compared with other trials, and which may be stopped early.

A killed trial resumes from its checkpoint; its earlier losses are reported to the pruner again, with the same results.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from tasks.errors import DataError
from tasks.finetune.config.search_settings import SearchSettings
from tasks.finetune.search.optuna_study import propose
from tasks.finetune.search.trial_results import Outcome, best_of, read_outcomes, write_outcome
from tasks.finetune.settings import TrainingSettings
from tasks.runtime.files import folder_digest

if TYPE_CHECKING:
    import optuna


class Trial(TrainerCallback):  # type: ignore[misc]
    """Reports the validation losses of a training to the pruner, and stops the training when the pruner does."""

    def __init__(self, number: int, values: dict[str, Any], optuna_trial: optuna.Trial, folder: Path) -> None:
        self.number = number
        self.values = values
        self.folder = folder
        self.is_stopped = False
        self.value = math.nan
        self._optuna_trial = optuna_trial
        self._losses: dict[int, float] = {}
        self._is_over = False

    @property
    def is_best(self) -> bool:
        """Is it better than all earlier trials?"""
        best = best_of(read_outcomes(self.folder, self.number))
        is_valid = not self.is_stopped and math.isfinite(self.value)
        return is_valid and (best is None or best.value is None or self.value < best.value)

    def require_validation(self, trainer: Any) -> None:
        """Raises DataError without validation rows."""
        if trainer.eval_dataset is None or not len(trainer.eval_dataset):
            what = "finetune.search compares validation losses, and the validation split has no rows"
            raise DataError(what, where="finetune", fix="Raise curate.valid_share, or leave finetune.search out")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for entry in state.log_history:  # of a resumed training
            if "eval_loss" in entry:
                self._report_loss(int(entry["step"]), float(entry["eval_loss"]), state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        self._report_loss(state.global_step, metrics["eval_loss"], state, control)

    def _report_loss(self, step: int, loss: float, state: Any, control: Any) -> None:
        self._losses[step] = loss
        self._optuna_trial.report(loss, step)
        if not self._is_over and step < state.max_steps and self._optuna_trial.should_prune():
            self.is_stopped = control.should_training_stop = True

    def conclude(self, trainer: Any) -> None:
        """Sets the validation loss of the final weights. All processes must call it."""
        self._is_over = True
        if self.is_stopped:
            return
        if trainer.args.load_best_model_at_end and trainer.state.best_metric is not None:
            self.value = float(trainer.state.best_metric)
            return
        step = trainer.state.global_step
        if step not in self._losses:
            curves = list(trainer.state.log_history)
            self._losses[step] = float(trainer.evaluate()["eval_loss"])
            trainer.state.log_history = (
                curves  # so that the candidate's curves equal those of a training without search
            )
        self.value = self._losses[step]

    def write(self, facts: dict[str, Any]) -> None:
        """Stores the outcome."""
        losses = {str(step): loss for step, loss in self._losses.items()}
        if self.is_stopped:
            outcome = Outcome(self.number, self.values, "stopped", None, losses, facts=facts)
        elif not math.isfinite(self.value):
            outcome = Outcome(self.number, self.values, "failed", failure=f"the validation loss is {self.value}")
        else:
            model = self.folder / f"trial-{self.number}" / "model"
            digest = folder_digest(model) if model.is_dir() else None
            outcome = Outcome(self.number, self.values, "complete", self.value, losses, facts=facts, model=digest)
        write_outcome(self.folder, outcome)


def begin_trial(search: SearchSettings, kind: type[TrainingSettings], folder: Path, number: int) -> Trial:
    """Starts trial `number` of the search in `folder`."""
    optuna_trial, values = propose(search, kind, folder, number)
    return Trial(number, values, optuna_trial, folder)
