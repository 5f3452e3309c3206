"""Settings of room `finetune` that one objective has alone."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Settings
from tasks.runtime.bounded_regex import compile_pattern

Objective = Literal["sft", "pretrain", "classify", "dpo", "orpo", "kto", "reward", "grpo", "distill"]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class ClassifySettings(Settings):
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by the inverse of how often it occurs, so that rare ones count as much as common ones."""


class PreferenceSettings(Settings):
    beta: Positive = 0.1
    """How much the model is held to what it was before: higher, more (DPO, Rafailov et al., 2023; for ORPO it is lambda)."""
    loss: Literal["sigmoid", "hinge", "ipo", "robust"] = "sigmoid"
    """The loss of `dpo`; `robust` takes `label_smoothing` for the share of pairs that were judged wrongly."""


class KtoSettings(Settings):
    beta: Positive = 0.1
    """As in `preference.beta`."""
    desirable_weight: Positive = 1.0
    """How much an answer judged good counts (Ethayarajh et al., 2024)."""
    undesirable_weight: Positive = 1.0
    """How much an answer judged bad counts."""


class RewardFunction(Settings):
    kind: Literal["exact_match", "score", "format", "model"]
    """`exact_match`: 1 where the answer is the row's, as evaluation reads it. `score`: what evaluation would give it, from 0 to 1.
    `format`: 1 where the whole answer matches `pattern`. `model`: what a reward model says."""
    weight: float = 1.0
    """How much it counts in the sum."""
    pattern: str | None = None
    """A regular expression, for `format`."""
    model: str | None = None
    """A folder with a reward model, or the version of a registered one, for `model`; null is the one trained in `before`."""

    @model_validator(mode="after")
    def says_what_it_needs(self) -> "RewardFunction":
        if (self.kind == "format") != (self.pattern is not None):
            raise ValueError("`pattern` belongs to kind: format, and is needed there")
        if self.pattern is not None:
            try:
                compile_pattern(self.pattern)
            except ValueError as error:
                raise ValueError(f"`pattern`: {error}") from error
        if self.model is not None and self.kind != "model":
            raise ValueError("`model` belongs to kind: model")
        return self


class GrpoSettings(Settings):
    rewards: tuple[RewardFunction, ...] = (RewardFunction(kind="score"),)
    """What an answer is rewarded for; their weighted sum is compared with those of the other answers to the same prompt."""
    answers: Annotated[int, Field(ge=2)] = 4
    """Answers to each prompt: a group (Shao et al., 2024)."""
    max_answer_tokens: Count = 128
    """Longest answer."""
    temperature: Positive = 1.0
    """Of the answers."""
    beta: Annotated[float, Field(ge=0)] = 0.02
    """Weight of the divergence from what the model was before."""


class DistillSettings(Settings):
    teacher: str | None = None
    """`champion`, the number of a registered version, a folder with a model, or one of soft targets that were stored before."""
    temperature: Positive = 2.0
    """Softens both sides (Hinton et al., 2015): higher shows more of what the teacher thought of other tokens."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the teacher's targets; the rest is the row's own answer."""
    top_tokens: Count = 32
    """So many of the teacher's likeliest tokens are kept at each place."""
