"""Settings of room `finetune` that belong to one objective."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from tasks.finetune.objective_table import OBJECTIVES
from tasks.runtime.base_settings import Settings
from tasks.runtime.bounded_regex import compile_pattern
from tasks.runtime.plugin_table import UnknownName

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


def _known(name: str) -> str:
    if name not in OBJECTIVES:
        raise UnknownName(OBJECTIVES.unknown(name))
    return name


def _list_names(schema: dict[str, Any]) -> None:
    schema["enum"] = list(OBJECTIVES)


Objective = Annotated[str, AfterValidator(_known), Field(json_schema_extra=_list_names)]
"""A name in the table of objectives."""


class ClassifySettings(Settings):
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weights each class by its inverse frequency, so that rare and frequent classes count equally."""


class PreferenceSettings(Settings):
    beta: Positive = 0.1
    """Strength of the constraint to the reference model (DPO, Rafailov et al., 2023); lambda for ORPO."""
    loss: Literal["sigmoid", "hinge", "ipo", "robust"] = "sigmoid"
    """The loss of `dpo`; `robust` reads `label_smoothing` as the share of wrongly labelled pairs."""


class KtoSettings(Settings):
    beta: Positive = 0.1
    """As in `preference.beta`."""
    desirable_weight: Positive = 1.0
    """Loss weight of answers rated good (Ethayarajh et al., 2024)."""
    undesirable_weight: Positive = 1.0
    """Loss weight of answers rated bad."""


class RewardFunction(Settings):
    kind: Literal["exact_match", "score", "format", "model", "tests"]
    """`exact_match`: 1 where the answer equals the row's by the rules of evaluation. `score`: its evaluation score, from 0 to 1.
    `format`: 1 where the whole answer matches `pattern`. `model`: the output of a reward model. `tests`: 1 where code passes the
    row's tests in the sandbox, with the default limits of `evaluate.code`; 0 for rows without tests, or whose tests pass without
    any answer."""
    weight: float = 1.0
    """Its weight in the sum."""
    pattern: str | None = None
    """A regular expression, for `format`."""
    model: str | None = None
    """For `model`: a folder with a reward model, or the version of a registered one; null: the one trained under `before`."""

    @model_validator(mode="after")
    def has_fields_of_its_kind(self) -> "RewardFunction":
        if (self.kind == "format") != (self.pattern is not None):
            raise ValueError("`pattern` is required for kind: format, and only allowed there")
        if self.pattern is not None:
            try:
                compile_pattern(self.pattern)
            except ValueError as error:
                raise ValueError(f"`pattern`: {error}") from error
        if self.model is not None and self.kind != "model":
            raise ValueError("`model` is only allowed for kind: model")
        return self


class GrpoSettings(Settings):
    rewards: tuple[RewardFunction, ...] = (RewardFunction(kind="score"),)
    """Reward functions; an answer's weighted sum is compared with those of the other answers to the same prompt."""
    answers: Annotated[int, Field(ge=2)] = 4
    """Sampled answers per prompt: the group size (Shao et al., 2024)."""
    max_answer_tokens: Count = 128
    """Maximum length of an answer."""
    temperature: Positive = 1.0
    """Sampling temperature."""
    beta: Annotated[float, Field(ge=0)] = 0.02
    """Weight of the KL divergence from the reference model."""


class DistillSettings(Settings):
    teacher: str | None = None
    """`champion`, the number of a registered version, a folder with a model, or a folder of stored soft targets."""
    temperature: Positive = 2.0
    """Softens both distributions (Hinton et al., 2015): a higher one gives less likely tokens more weight."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Loss weight of the teacher's targets; the rest is the weight of the row's own answer."""
    top_tokens: Count = 32
    """Number of the teacher's most likely tokens stored per position."""
