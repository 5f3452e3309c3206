"""Checks of invalid combinations of settings, when params.yaml is read. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import TrainingError
from tasks.finetune.objective_table import OBJECTIVES, Rejected

if TYPE_CHECKING:
    from tasks.finetune.config.training_fields import TrainingFields

USES: dict[Rejected, tuple[Callable[[TrainingFields], object], str]] = {
    "method: prompt": (
        lambda settings: settings.method == "prompt",
        "method: prompt cannot be combined with {by}; set lora, dora, qlora, freeze or full",
    ),
    "loss_on: all": (
        lambda settings: settings.loss_on == "all",
        "loss_on: all cannot be combined with {by}; leave it out",
    ),
    "neftune_alpha": (
        lambda settings: settings.neftune_alpha,
        "neftune_alpha cannot be combined with {by}; leave it out",
    ),
    "dropout": (
        lambda settings: settings.dropout or settings.lora.dropout,
        "dropout and lora.dropout cannot be combined with {by}, which compares with a reference model; set them to 0",
    ),
    "label_smoothing": (
        lambda settings: settings.label_smoothing,
        "label_smoothing cannot be combined with {by}; leave it out",
    ),
    "early_stopping_patience": (
        lambda settings: settings.early_stopping_patience,
        "early_stopping_patience cannot be combined with {by}, whose loss does not measure the quality of answers",
    ),
}
"""A setting that an objective may reject (ObjectiveSpec.rejects) → whether it is used, and the message."""

NEEDED_BY_SCHEDULE = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
"""Schedule → names of which `trainer.lr_scheduler_kwargs` must hold one."""


def invalid_combinations(settings: TrainingFields) -> Iterator[str]:
    """Every invalid combination of settings, each as one line."""
    if settings.batches == "by_length" and not settings.spec.supports_by_length:
        names = [name for name, spec in OBJECTIVES.items() if spec.supports_by_length]
        yield f"batches: by_length is for objective: {' and '.join(names)}, not {settings.objective}"
    if settings.early_stopping_patience and not settings.evaluations_per_epoch:
        yield "early_stopping_patience counts measurements of the validation loss: set evaluations_per_epoch"
    if settings.gradient_checkpointing and settings.method == "prompt" and settings.prompt.kind == "prefix":
        yield "gradient_checkpointing cannot be combined with prompt.kind: prefix, which needs the KV cache; set kind: prompt"
    needed = NEEDED_BY_SCHEDULE.get(settings.schedule, ())
    kwargs = settings.trainer.get("lr_scheduler_kwargs")
    if needed and not any(isinstance(kwargs, dict | str) and name in kwargs for name in needed):
        yield f"schedule: {settings.schedule} needs trainer.lr_scheduler_kwargs with {' or '.join(needed)}"
    yield from _rejected_by_objective(settings)


def _rejected_by_objective(settings: TrainingFields) -> Iterator[str]:
    by = f"objective: {settings.objective}"
    for name in settings.spec.rejects:
        is_used, message = USES[name]
        if is_used(settings):
            yield message.format(by=by)
    if settings.spec.check is not None and (what := settings.spec.check(settings)):
        yield what


def missing_reward_model(trainings: Sequence[TrainingFields]) -> str | None:
    """An error where `grpo` needs a reward model that no earlier training produces; None where all are available."""
    for index, training in enumerate(trainings):
        unnamed = [reward for reward in training.grpo.rewards if reward.kind == "model" and reward.model is None]
        if training.spec.section == "grpo" and unnamed and all(t.spec.head != "reward" for t in trainings[:index]):
            return (
                "grpo.rewards has kind: model without a reward model; name one (model: ...), or train one in `before`"
            )
    return None


def invalid_start_from_classifier(trainings: Sequence[TrainingFields]) -> str | None:
    """An error where another objective would start from a classifier; None where none does."""
    first = next((index for index, t in enumerate(trainings) if t.spec.head == "labels"), len(trainings))
    other = next((t.objective for t in trainings[first:] if t.spec.head != "labels"), None)
    if other is None:
        return None
    start = trainings[first].objective
    return f"objective: {other} cannot start from objective: {start}, whose model classifies and does not generate"


def invalid_start_from_prompts(trainings: Sequence[TrainingFields]) -> str | None:
    """An error where a training cannot start from the previous one because one of them trains prompts; None where all can."""
    previous: TrainingFields | None = None
    for training in trainings:
        if previous is not None and "prompt" in (training.method, previous.method):
            if training.method != "prompt":
                return f"method: {training.method} cannot start from method: prompt: its vectors cannot be merged into weights"
            if previous.method != "prompt" or training.prompt != previous.prompt:
                return "method: prompt can only start from trained prompts of the same kind and number"
        if training.spec.head != "reward":  # no training starts from a reward model
            previous = training
    return None


def require_reward_models(settings: TrainingFields) -> None:
    """Raises TrainingError where a named reward model is another kind of model, DataError where it does not exist."""
    from tasks.state.training_start import version_folder

    names = [reward.model for reward in settings.grpo.rewards if reward.model is not None]
    for name in names if settings.spec.section == "grpo" else ():
        require_reward_model_in(version_folder(name))


def require_reward_model_in(folder: Path) -> None:
    """Raises TrainingError where the folder holds another kind of model."""
    from tasks.base.load import labels_of

    if len(labels_of(folder) or ()) != 1:
        raise TrainingError(
            f"{folder} holds no reward model",
            where="params.yaml, finetune.grpo.rewards",
            fix="Name one that was trained with objective: reward",
        )
