"""Which settings an objective has no use for. Told when params.yaml is read: before any work. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.errors import TrainingError

if TYPE_CHECKING:
    from tasks.finetune.config.training_fields import TrainingFields

PREFERENCES = ("dpo", "orpo", "kto", "reward", "grpo")
WITH_REFERENCE = ("dpo", "kto", "grpo")
"""They compare the model with what it was before, which dropout would blur."""

NEEDED_BY_SCHEDULE = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
"""Schedule → what has to stand in `trainer.lr_scheduler_kwargs`: one of these."""


def misfit(settings: TrainingFields) -> str | None:
    """What does not go with the objective, or with another setting, as one line; None where all does."""
    objective = settings.objective
    if settings.early_stopping_patience and not settings.evaluations_per_epoch:
        return "early_stopping_patience counts measurements of the validation loss: set evaluations_per_epoch"
    if settings.gradient_checkpointing and settings.method == "prompt" and settings.prompt.kind == "prefix":
        return (
            "gradient_checkpointing does not go with prompt.kind: prefix, which stands in the cache; set kind: prompt"
        )
    needed = NEEDED_BY_SCHEDULE.get(settings.schedule, ())
    given = settings.trainer.get("lr_scheduler_kwargs")
    if needed and not any(isinstance(given, dict | str) and name in given for name in needed):
        return f"schedule: {settings.schedule} needs trainer.lr_scheduler_kwargs with {' or '.join(needed)}"
    if objective == "distill":
        return _misfit_of_teaching(settings)
    if objective not in PREFERENCES:
        return None
    by = f"objective: {objective}"
    if settings.method == "prompt":
        return f"method: prompt does not go with {by}; set lora, dora, qlora, freeze or full"
    if settings.loss_on == "all":
        return f"loss_on: all does not go with {by}; leave it out"
    if settings.neftune_alpha:
        return f"neftune_alpha does not go with {by}; leave it out"
    if objective in WITH_REFERENCE and (settings.dropout or settings.lora.dropout):
        return f"dropout and lora.dropout do not go with {by}, which compares the model with what it was; set them to 0"
    return _misfit_of_smoothing(settings) or _misfit_of_batches(settings)


def _misfit_of_teaching(settings: TrainingFields) -> str | None:
    if settings.method == "prompt":
        return "method: prompt does not go with objective: distill; set lora, dora, qlora, freeze or full"
    if settings.label_smoothing:
        return "label_smoothing does not go with objective: distill; leave it out"
    if settings.distill.teacher is None:
        return (
            "objective: distill needs a teacher; name one in distill.teacher: champion, a version's number, or a folder"
        )
    return None


def _misfit_of_smoothing(settings: TrainingFields) -> str | None:
    """Of `dpo` with the robust loss, it is the share of pairs that are taken to be the wrong way round."""
    if settings.objective == "dpo" and settings.preference.loss == "robust":
        if not 0 < settings.label_smoothing < 0.5:
            return "preference.loss: robust needs label_smoothing, the share of pairs that were judged wrongly: above 0, below 0.5"
    elif settings.label_smoothing:
        return f"label_smoothing does not go with objective: {settings.objective}; leave it out"
    return None


def _misfit_of_batches(settings: TrainingFields) -> str | None:
    if settings.objective == "kto" and settings.micro_batch_rows < 2:
        return "objective: kto needs micro_batch_rows of at least 2: it compares answers with those to other prompts"
    if settings.objective == "grpo" and settings.early_stopping_patience:
        return "early_stopping_patience does not go with objective: grpo, whose loss says nothing of how good its answers are"
    return None


def missing_judge(trainings: Sequence[TrainingFields]) -> str | None:
    """Which training rewards by a model that no training before it makes; None where none does."""
    for place, training in enumerate(trainings):
        judges = [reward for reward in training.grpo.rewards if reward.kind == "model" and reward.model is None]
        if training.objective == "grpo" and judges and all(each.objective != "reward" for each in trainings[:place]):
            return (
                "grpo.rewards has kind: model without a reward model; name one (model: ...), or train one in `before`"
            )
    return None


def misplaced_head(trainings: Sequence[TrainingFields]) -> str | None:
    """Which training would go on from a head of labels that it has no use for; None where none does."""
    first = next((place for place, each in enumerate(trainings) if each.objective == "classify"), len(trainings))
    other = next((each.objective for each in trainings[first:] if each.objective != "classify"), None)
    return (
        other
        and f"objective: {other} cannot go on from objective: classify, whose model tells labels apart and does not write"
    )


def misplaced_prompts(trainings: Sequence[TrainingFields]) -> str | None:
    """Which training cannot go on from the one before because one of them trains prompts; None where all can."""
    before: TrainingFields | None = None
    for training in trainings:
        if before is not None and "prompt" in (training.method, before.method):
            if training.method != "prompt":
                return f"method: {training.method} cannot go on from method: prompt: its vectors cannot be merged into weights"
            if before.method != "prompt" or training.prompt != before.prompt:
                return "method: prompt can go on only from trained prompts of the same kind and number"
        if training.objective != "reward":  # nothing goes on from a reward model
            before = training
    return None


def require_judges(settings: TrainingFields) -> None:
    """Raises TrainingError where a reward model that the training names is none, DataError where it is not there."""
    from tasks.base.load import labels_of
    from tasks.state.training_start import version_folder

    named = [reward.model for reward in settings.grpo.rewards if reward.model is not None]
    for name in named if settings.objective == "grpo" else ():
        folder = version_folder(name)
        if len(labels_of(folder) or ()) != 1:
            raise TrainingError(
                f"{folder} holds no reward model",
                where="params.yaml, finetune.grpo.rewards",
                fix="Name one that was trained with objective: reward",
            )
