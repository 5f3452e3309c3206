"""The table of training objectives: what the other parts of Strop know of each, without importing its module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tasks.dataset.forms import FORMS
from tasks.errors import ConfigError
from tasks.runtime.base_settings import Settings
from tasks.runtime.plugin_table import PluginTable

Head = Literal["none", "labels", "reward"]
Rejected = Literal[
    "method: prompt", "loss_on: all", "neftune_alpha", "dropout", "label_smoothing", "early_stopping_patience"
]
MODEL_KINDS: dict[Head, str] = {"none": "generates", "labels": "classifies", "reward": "scores answers"}
"""The kind of a model with this head, as `tasks.base.model_kind.kind_of_model` reads it from a folder."""


def _two(_: Any) -> int:
    return 2


def _always(_: Any) -> bool:
    return True


@dataclass(frozen=True)
class ObjectiveSpec:
    """One objective. Functions take the settings of a training (TrainingFields)."""

    module: str
    """The module with `prepare(work: Work) -> PreparedTraining` (work.py), imported when a training begins."""
    form: str
    """The form of its rows, one of FORMS (tasks/dataset/forms.py)."""
    head: Head = "none"
    """`labels`: a classification head; `reward`: a scalar one; `none`: that of the causal LM."""
    is_packed: bool = False
    """Are several examples concatenated into a row, without padding (`batches: packed`)?"""
    supports_by_length: bool = False
    """May examples be batched by length (`batches: by_length`)?"""
    has_valid_loss: bool = True
    """Does the validation loss measure quality, so that a search can compare trainings by it?"""
    section: str | None = None
    """Its own section of the settings."""
    options: type[Settings] | None = None
    """The model of `finetune.options`, the settings of a plugin's objective."""
    loss_settings: tuple[str, ...] = ()
    """Other settings that change what its validation loss means, which a search cannot compare."""
    rejects: tuple[Rejected, ...] = ()
    """The settings that do not apply to it."""
    check: Callable[[Any], str | None] | None = None
    """Returns a further invalid combination as one line, or None."""
    require: str | None = None
    """The name of a function `(settings, base record) -> None` of `module` that checks files before any training begins."""
    models: Callable[[Any], list[str]] | None = None
    """Names of the registered versions and folders that it reads, such as teachers."""
    arguments: tuple[str, str] = ("transformers", "TrainingArguments")
    """Module and class of the trainer's arguments."""
    sets: tuple[str, ...] = ()
    """Fields of that class that it sets itself; a user's value under `finetune.trainer` is rejected."""
    field_values: Callable[[Any], dict[str, Any]] | None = None
    """The values of these fields. Without it, values under `finetune.trainer` are checked by the training, not before the run."""
    extra_passes: int = 0
    """Additional forward passes a step, for the count of FLOPs."""
    has_reference_model: Callable[[Any], bool] = lambda training: False
    """Is a copy of the start weights in memory? These four fields are for the estimate of memory."""
    sequences: Callable[[Any], int] = lambda training: 1
    """Sequences of a row in a forward pass: two for a pair."""
    sampled_tokens: Callable[[Any], int] = lambda training: 0
    """Maximum tokens that it samples per sequence."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that another part of Strop does not know; a plugin's typing is not checked."""
        known = {"form": tuple(FORMS), "head": get_args(Head), "rejects": get_args(Rejected)}
        for name, values in (("form", (self.form,)), ("head", (self.head,)), ("rejects", self.rejects)):
            if unknown := [value for value in values if value not in known[name]]:
                raise ConfigError(f"`{name}` of the objective is {unknown[0]!r}; it may be {', '.join(known[name])}")


_PREFERENCE_REJECTS: tuple[Rejected, ...] = ("method: prompt", "loss_on: all", "neftune_alpha", "label_smoothing")


def _invalid_teacher(training: Any) -> str | None:
    fix = "name one in distill.teacher: champion, a version's number, or a folder"
    return f"objective: distill needs a teacher; {fix}" if training.distill.teacher is None else None


def _invalid_dpo_smoothing(training: Any) -> str | None:
    """With the robust loss, label smoothing is the assumed share of wrongly labelled pairs."""
    if training.preference.loss == "robust":
        if not 0 < training.label_smoothing < 0.5:
            return (
                "preference.loss: robust needs label_smoothing, the share of wrongly labelled pairs: above 0, below 0.5"
            )
    elif training.label_smoothing:
        return "label_smoothing cannot be combined with objective: dpo; leave it out"
    return None


def _invalid_kto_batch(training: Any) -> str | None:
    if training.micro_batch_rows < 2:
        return "objective: kto needs micro_batch_rows of at least 2: it compares answers with those to other prompts"
    return None


def _trl(trainer_class: tuple[str, str], **values: Any) -> dict[str, Any]:
    """The fields of a spec about one of TRL's trainers.

    Args:
        trainer_class: module and class of the trainer's arguments.
        values: field of that class → its value, or a function of the settings.
    """
    values = {
        "gradient_checkpointing": lambda training: training.gradient_checkpointing,  # TRL's default is True
        "gradient_checkpointing_kwargs": lambda t: {"use_reentrant": False} if t.gradient_checkpointing else None,
        **values,
    }

    def field_values(training: Any) -> dict[str, Any]:
        return {name: value(training) if callable(value) else value for name, value in values.items()}

    return {"arguments": trainer_class, "sets": tuple(values), "field_values": field_values}


def _answers_at_once(training: Any) -> int:
    return int(training.micro_batch_rows * training.grpo.answers)


OBJECTIVES: PluginTable[ObjectiveSpec] = PluginTable(
    "objective",
    {
        "sft": ObjectiveSpec("tasks.finetune.objectives.sft", "answers", is_packed=True, supports_by_length=True),
        "pretrain": ObjectiveSpec("tasks.finetune.objectives.sft", "texts", is_packed=True, supports_by_length=True),
        "classify": ObjectiveSpec("tasks.finetune.objectives.classify", "labels", head="labels", section="classify"),
        "dpo": ObjectiveSpec(
            "tasks.finetune.objectives.preferences",
            "pairs",
            section="preference",
            loss_settings=("label_smoothing",),
            rejects=("method: prompt", "loss_on: all", "neftune_alpha", "dropout"),
            check=_invalid_dpo_smoothing,
            extra_passes=1,  # of the reference model
            has_reference_model=_always,
            sequences=_two,
            **_trl(
                ("trl", "DPOConfig"),
                max_length=None,  # no truncation
                beta=lambda training: training.preference.beta,
                loss_type=lambda training: training.preference.loss,
                label_smoothing=lambda training: training.label_smoothing,
                precompute_ref_log_probs=False,
            ),
        ),
        "orpo": ObjectiveSpec(
            "tasks.finetune.objectives.preferences",
            "pairs",
            section="preference",
            rejects=_PREFERENCE_REJECTS,
            sequences=_two,
            **_trl(
                ("trl.experimental.orpo", "ORPOConfig"),
                max_length=1 << 20,
                beta=lambda training: training.preference.beta,
                disable_dropout=False,
            ),
        ),
        "kto": ObjectiveSpec(
            "tasks.finetune.objectives.preferences",
            "judged",
            section="kto",
            rejects=(*_PREFERENCE_REJECTS, "dropout"),
            check=_invalid_kto_batch,
            extra_passes=3,  # of the reference model, and of both models for answers to other prompts
            has_reference_model=_always,
            **_trl(
                ("trl", "KTOConfig"),
                max_length=None,
                beta=lambda training: training.kto.beta,
                desirable_weight=lambda training: training.kto.desirable_weight,
                undesirable_weight=lambda training: training.kto.undesirable_weight,
                precompute_ref_log_probs=False,
                train_sampling_strategy="sequential",
            ),
        ),
        "reward": ObjectiveSpec(
            "tasks.finetune.objectives.reward_model",
            "ranked",
            head="reward",
            rejects=_PREFERENCE_REJECTS,
            sequences=_two,
            **_trl(("trl", "RewardConfig"), max_length=None, disable_dropout=False),
        ),
        "grpo": ObjectiveSpec(
            "tasks.finetune.objectives.grpo",
            "prompts",
            has_valid_loss=False,
            section="grpo",
            rejects=(*_PREFERENCE_REJECTS, "dropout", "early_stopping_patience"),
            models=lambda training: [reward.model for reward in training.grpo.rewards if reward.model],
            has_reference_model=lambda training: training.grpo.beta > 0,
            sequences=lambda training: int(training.grpo.answers),
            sampled_tokens=lambda training: int(training.grpo.max_answer_tokens),
            **_trl(
                ("trl", "GRPOConfig"),
                beta=lambda training: training.grpo.beta,
                temperature=lambda training: training.grpo.temperature,
                num_generations=lambda training: training.grpo.answers,
                num_generations_eval=1,
                max_completion_length=lambda training: training.grpo.max_answer_tokens,
                reward_weights=lambda training: [reward.weight for reward in training.grpo.rewards],
                per_device_train_batch_size=_answers_at_once,
                per_device_eval_batch_size=_answers_at_once,
                steps_per_generation=None,  # generate once per step: no checkpoint separates answers from their update
                generation_batch_size=None,
                num_iterations=1,
                disable_dropout=True,
                generation_kwargs={"use_cache": True},
                log_completions=False,
            ),
        ),
        "distill": ObjectiveSpec(
            "tasks.finetune.objectives.distill",
            "answers",
            is_packed=True,
            section="distill",
            rejects=("method: prompt", "label_smoothing"),
            check=_invalid_teacher,
            require="require_teacher",
            models=lambda training: [training.distill.teacher] if training.distill.teacher else [],
        ),
    },
    stages=("finetune",),
)
"""Objective → its spec, in the order of docs/settings.md. Plugins add theirs (docs/extend.md)."""
