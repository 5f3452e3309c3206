"""Checks of invalid combinations of settings, when params.yaml is read. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import TrainingError

if TYPE_CHECKING:
    from tasks.finetune.config.training_fields import TrainingFields

PREFERENCES = ("dpo", "orpo", "kto", "reward", "grpo")
WITH_REFERENCE_MODEL = ("dpo", "kto", "grpo")
"""Objectives with a reference model; dropout would add noise to the comparison."""

NEEDED_BY_SCHEDULE = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
"""Schedule → names of which `trainer.lr_scheduler_kwargs` must hold one."""


def invalid_combinations(settings: TrainingFields) -> Iterator[str]:
    """Every invalid combination of settings, each as one line."""
    objective = settings.objective
    if settings.batches == "by_length" and objective not in ("sft", "pretrain"):
        yield f"batches: by_length is for objective: sft and pretrain, not {objective}"
    if settings.early_stopping_patience and not settings.evaluations_per_epoch:
        yield "early_stopping_patience counts measurements of the validation loss: set evaluations_per_epoch"
    if settings.gradient_checkpointing and settings.method == "prompt" and settings.prompt.kind == "prefix":
        yield "gradient_checkpointing cannot be combined with prompt.kind: prefix, which needs the KV cache; set kind: prompt"
    needed = NEEDED_BY_SCHEDULE.get(settings.schedule, ())
    kwargs = settings.trainer.get("lr_scheduler_kwargs")
    if needed and not any(isinstance(kwargs, dict | str) and name in kwargs for name in needed):
        yield f"schedule: {settings.schedule} needs trainer.lr_scheduler_kwargs with {' or '.join(needed)}"
    if objective == "distill":
        yield from _invalid_distillation(settings)
    if objective in PREFERENCES:
        yield from _invalid_preferences(settings)


def _invalid_distillation(settings: TrainingFields) -> Iterator[str]:
    if settings.method == "prompt":
        yield "method: prompt cannot be combined with objective: distill; set lora, dora, qlora, freeze or full"
    if settings.label_smoothing:
        yield "label_smoothing cannot be combined with objective: distill; leave it out"
    if settings.distill.teacher is None:
        yield (
            "objective: distill needs a teacher; name one in distill.teacher: champion, a version's number, or a folder"
        )


def _invalid_preferences(settings: TrainingFields) -> Iterator[str]:
    objective, by = settings.objective, f"objective: {settings.objective}"
    if settings.method == "prompt":
        yield f"method: prompt cannot be combined with {by}; set lora, dora, qlora, freeze or full"
    if settings.loss_on == "all":
        yield f"loss_on: all cannot be combined with {by}; leave it out"
    if settings.neftune_alpha:
        yield f"neftune_alpha cannot be combined with {by}; leave it out"
    if objective in WITH_REFERENCE_MODEL and (settings.dropout or settings.lora.dropout):
        yield f"dropout and lora.dropout cannot be combined with {by}, which compares with a reference model; set them to 0"
    # with the robust loss of `dpo`, label smoothing is the assumed share of wrongly labelled pairs
    if objective == "dpo" and settings.preference.loss == "robust":
        if not 0 < settings.label_smoothing < 0.5:
            yield (
                "preference.loss: robust needs label_smoothing, the share of wrongly labelled pairs: above 0, below 0.5"
            )
    elif settings.label_smoothing:
        yield f"label_smoothing cannot be combined with {by}; leave it out"
    if objective == "kto" and settings.micro_batch_rows < 2:
        yield "objective: kto needs micro_batch_rows of at least 2: it compares answers with those to other prompts"
    if objective == "grpo" and settings.early_stopping_patience:
        yield "early_stopping_patience cannot be combined with objective: grpo, whose loss does not measure the quality of answers"


def missing_reward_model(trainings: Sequence[TrainingFields]) -> str | None:
    """An error where `grpo` needs a reward model that no earlier training produces; None where all are available."""
    for index, training in enumerate(trainings):
        unnamed = [reward for reward in training.grpo.rewards if reward.kind == "model" and reward.model is None]
        if training.objective == "grpo" and unnamed and all(t.objective != "reward" for t in trainings[:index]):
            return (
                "grpo.rewards has kind: model without a reward model; name one (model: ...), or train one in `before`"
            )
    return None


def invalid_start_from_classifier(trainings: Sequence[TrainingFields]) -> str | None:
    """An error where another objective would start from a classifier; None where none does."""
    first = next((index for index, t in enumerate(trainings) if t.objective == "classify"), len(trainings))
    other = next((t.objective for t in trainings[first:] if t.objective != "classify"), None)
    return (
        other
        and f"objective: {other} cannot start from objective: classify, whose model classifies and does not generate"
    )


def invalid_start_from_prompts(trainings: Sequence[TrainingFields]) -> str | None:
    """An error where a training cannot start from the previous one because one of them trains prompts; None where all can."""
    previous: TrainingFields | None = None
    for training in trainings:
        if previous is not None and "prompt" in (training.method, previous.method):
            if training.method != "prompt":
                return f"method: {training.method} cannot start from method: prompt: its vectors cannot be merged into weights"
            if previous.method != "prompt" or training.prompt != previous.prompt:
                return "method: prompt can only start from trained prompts of the same kind and number"
        if training.objective != "reward":  # no training starts from a reward model
            previous = training
    return None


def require_reward_models(settings: TrainingFields) -> None:
    """Raises TrainingError where a named reward model is another kind of model, DataError where it does not exist."""
    from tasks.state.training_start import version_folder

    names = [reward.model for reward in settings.grpo.rewards if reward.model is not None]
    for name in names if settings.objective == "grpo" else ():
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
