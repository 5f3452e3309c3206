"""Schedules of the learning rate: what they need under `trainer: {lr_scheduler_kwargs: ...}`, told before any work."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from tasks.errors import TrainingError, one_line

if TYPE_CHECKING:
    from tasks.finetune.settings import TrainingSettings

NAMES = {"constant": "constant_with_warmup"}
"""Ours → transformers', where they differ."""
GIVEN = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
"""What a schedule is not told by the user."""
MANY = 1_000_000
"""Steps of a training whose rows are not counted yet."""


def require_schedule(settings: TrainingSettings, steps: int | None = None, kwargs: Any = None) -> None:
    """Makes the schedule and looks at its first and last rates.

    Args:
        steps: of the whole training, where they are known.
        kwargs: as the Trainer reads them; the settings' own where it has not.

    Raises:
        TrainingError: the schedule lacks an argument, does not know one, or refuses a value.
    """
    import torch
    from transformers import get_scheduler

    steps = steps or settings.max_steps or MANY
    warmup = round(settings.warmup_share * steps)
    kwargs = kwargs or settings.trainer.get("lr_scheduler_kwargs") or {}
    if isinstance(kwargs, str):  # JSON, which the Trainer reads later
        return
    name = NAMES.get(settings.schedule, settings.schedule)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings.learning_rate)
    try:
        made = get_scheduler(name, optimizer, warmup, steps, kwargs)
        for step in (warmup, steps - 1, steps):  # the rate after the last step is computed, too
            for rate in made.lr_lambdas:
                float(rate(step))
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        told = one_line(error)
        fix = f"It takes {_arguments(name)}, under finetune.trainer.lr_scheduler_kwargs; or set another schedule"
        raise TrainingError(f"finetune.schedule: {settings.schedule}: {told}", where="params.yaml", fix=fix) from error


def _arguments(name: str) -> str:
    """What the user may tell the schedule."""
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    known = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[name]).parameters
    return ", ".join(each for each in known if each not in GIVEN) or "nothing"
