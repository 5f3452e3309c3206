"""Settings of `finetune.search`, and the settings of a trial: those of a training, with some values replaced."""

from __future__ import annotations

import difflib
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from tasks.finetune.objective_table import OBJECTIVES
from tasks.runtime.base_settings import Seed, Settings

if TYPE_CHECKING:
    from tasks.finetune.config.training_fields import TrainingFields

Count = Annotated[int, Field(ge=1)]
Fields = typing.TypeVar("Fields", bound="TrainingFields")

NOT_SEARCHABLE = (
    *("objective", "loss_on", "evaluations_per_epoch", "options"),
    *("before", "continue_from", "replay_share", "search", "launch"),
)
"""Settings whose values cannot be compared by validation loss, or that do not belong to one training; with the sections of
objectives."""


class Range(Settings):
    low: int | float | None = None
    """Minimum, with `high`."""
    high: int | float | None = None
    """Maximum."""
    log: bool = False
    """Sample on a logarithmic scale? For learning rates and the like."""
    choices: tuple[Any, ...] | None = None
    """The values, instead of a range."""

    @model_validator(mode="after")
    def is_range_or_choices(self) -> Range:
        has_bounds = self.low is not None and self.high is not None
        if has_bounds == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("set `low` and `high`, or `choices`")
        if self.choices and self.log:
            raise ValueError("`log` is only allowed with `low` and `high`")
        if self.low is not None and self.high is not None:
            if self.low > self.high:
                raise ValueError(f"`low` is {self.low}, above `high`, which is {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"`low` is {self.low}, which has no logarithm")
        return self


class SearchSettings(Settings):
    trials: Count = 20
    """Number of trials. The best one becomes the candidate."""
    parameters: Annotated[dict[str, Range], Field(min_length=1)]
    """The search space, by the setting's name: `learning_rate: {low: 1e-5, high: 1e-3, log: true}`, `lora.rank: {choices: [8,
    16]}`; see "Search" in docs/training.md."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """`tpe` samples near good trials (Bergstra et al., 2011), `random` uniformly; `grid` tries the combinations of `choices`, up to
    `trials` of them."""
    random_trials: Count = 8
    """Random trials before `tpe` uses their results."""
    pruner: Literal["median", "none"] = "median"
    """`median` stops a trial whose validation loss is worse than the median of the others' at the same step."""
    trials_before_pruning: Count = 4
    """Trials that run to the end before any is stopped."""
    seed: Seed = 17
    """Seed of the sampler."""

    @model_validator(mode="after")
    def has_a_grid(self) -> SearchSettings:
        ranges = [name for name, values in self.parameters.items() if not values.choices]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"sampler: grid needs `choices` for {ranges[0]}")
        return self


def require_searchable(search: SearchSettings, settings: TrainingFields) -> None:
    """Raises ValueError if a parameter is not a setting of the training, or a value is invalid for it."""
    if not settings.spec.has_valid_loss:
        raise ValueError(f"`search` compares validation losses, and objective: {settings.objective} has none")
    if not settings.evaluations_per_epoch:
        raise ValueError("`search` compares validation losses: set evaluations_per_epoch")
    fixed = {*NOT_SEARCHABLE, *(spec.section for spec in OBJECTIVES.values())}
    for name, values in search.parameters.items():
        if name.split(".")[0] in fixed or name in settings.spec.loss_settings:
            raise ValueError(f"search.parameters.{name} cannot be searched: it changes what the validation loss means")
        kind = number_type(type(settings), name, values)
        if values.choices is None and kind is None:
            raise ValueError(f"search.parameters.{name} is not a number: set `choices`")
        for value in values.choices or (values.low, values.high):
            try:
                with_values(settings, {name: as_type(value, kind)})
            except ValidationError as error:
                reason = error.errors()[0]["msg"].replace("Value error, ", "").replace("Input should", "it should")
                raise ValueError(f"search.parameters.{name} may not be {value!r}: {reason}") from error


def number_type(kind: type[TrainingFields], name: str, values: Range) -> type[int] | type[float] | None:
    """The numeric type of the setting with a dotted name; None for another type. Raises ValueError if there is no such setting.

    For a field under `trainer`, choices keep their type, and a range is one of floats.
    """
    parts = name.split(".")
    if parts[0] == "trainer" and len(parts) == 2:
        return None if values.choices else float
    model: Any = kind
    annotation: Any = None
    for depth, part in enumerate(parts):
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        if part not in fields:
            near = difflib.get_close_matches(part, fields, n=1, cutoff=0.4)
            hint = f"did you mean `{'.'.join([*parts[:depth], near[0]])}`?" if near else f"known: {', '.join(fields)}"
            raise ValueError(f"search.parameters.{name} is not a setting of a training; {hint}")
        annotation = fields[part].annotation
        model = annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        raise ValueError(f"search.parameters.{name} is a section: name a setting in it")
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = set(typing.get_args(annotation)) if is_union else {annotation}
    kinds = {typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind for kind in kinds}
    return float if float in kinds else int if int in kinds and bool not in kinds else None


def as_type(value: Any, kind: type[int] | type[float] | None) -> Any:
    """Converts an integer to float where the setting is a float: `low: 0`."""
    return float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value


def with_values(settings: Fields, values: dict[str, Any]) -> Fields:
    """The settings with some values replaced, by dotted name. Raises ValidationError if a value is invalid."""
    content = settings.model_dump()
    content.pop("search", None)
    for name, value in values.items():
        *sections, last = name.split(".")
        section = content
        for part in sections:
            section = section[part]
        section[last] = tuple(value) if isinstance(value, list) else value
    return type(settings).model_validate(content)
