"""Learning-rate schedules: checks `trainer: {lr_scheduler_kwargs: ...}` before any work."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from tasks.errors import TrainingError, one_line

if TYPE_CHECKING:
    from tasks.finetune.settings import TrainingSettings

TRANSFORMERS_NAMES = {"constant": "constant_with_warmup"}
"""Our name → transformers' name, where they differ."""
SET_BY_TRAINER = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
"""Arguments of a schedule that the user does not set."""
DEFAULT_STEPS = 1_000_000
"""Assumed steps while the rows are not counted yet."""


def require_schedule(settings: TrainingSettings, steps: int | None = None, kwargs: Any = None) -> None:
    """Builds the schedule and computes its first and last rates.

    Args:
        steps: of the whole training, if known.
        kwargs: as parsed by the Trainer; default: those in the settings.

    Raises:
        TrainingError: an argument is missing or unknown, or a value is invalid.
    """
    import torch
    from transformers import get_scheduler

    steps = steps or settings.max_steps or DEFAULT_STEPS
    warmup = round(settings.warmup_share * steps)
    kwargs = kwargs or settings.trainer.get("lr_scheduler_kwargs") or {}
    if isinstance(kwargs, str):  # JSON, which the Trainer parses later
        return
    name = TRANSFORMERS_NAMES.get(settings.schedule, settings.schedule)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings.learning_rate)
    try:
        scheduler = get_scheduler(name, optimizer, warmup, steps, kwargs)
        for step in (warmup, steps - 1, steps):  # the rate after the last step is computed, too
            for rate_at in scheduler.lr_lambdas:
                float(rate_at(step))
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        fix = f"It takes {_arguments(name)}, under finetune.trainer.lr_scheduler_kwargs; or set another schedule"
        raise TrainingError(
            f"finetune.schedule: {settings.schedule}: {one_line(error)}", where="params.yaml", fix=fix
        ) from error


def _arguments(name: str) -> str:
    """Names of the schedule's arguments that the user may set."""
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    parameters = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[name]).parameters
    return ", ".join(name for name in parameters if name not in SET_BY_TRAINER) or "no arguments"
