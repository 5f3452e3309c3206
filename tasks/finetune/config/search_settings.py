"""Settings of `finetune.search`, and what a trial's settings are: a training's, with some values replaced."""

from __future__ import annotations

import difflib
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from tasks.runtime.base_settings import Seed, Settings

if TYPE_CHECKING:
    from tasks.finetune.config.training_fields import TrainingFields

Count = Annotated[int, Field(ge=1)]
Trained = typing.TypeVar("Trained", bound="TrainingFields")

CHANGES_THE_MEASURE = (
    *("objective", "loss_on", "evaluations_per_epoch", "classify", "preference", "kto", "grpo", "distill"),
    *("before", "continue_from", "replay_share", "search", "launch"),
)
"""Settings whose values cannot be compared by validation loss, or that are not the training's own."""


class Range(Settings):
    low: int | float | None = None
    """Least value, with `high`."""
    high: int | float | None = None
    """Greatest value."""
    log: bool = False
    """Is it the logarithm that is drawn evenly? For learning rates and the like."""
    choices: tuple[Any, ...] | None = None
    """The values, where they are no range."""

    @model_validator(mode="after")
    def is_one_or_the_other(self) -> Range:
        has_bounds = self.low is not None and self.high is not None
        if has_bounds == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("give `low` and `high`, or `choices`")
        if self.choices and self.log:
            raise ValueError("`log` belongs to `low` and `high`")
        if self.low is not None and self.high is not None:
            if self.low > self.high:
                raise ValueError(f"`low` is {self.low}, above `high`, which is {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"`low` is {self.low}, which has no logarithm")
        return self

    def ends(self) -> tuple[Any, ...]:
        """The values that have to be allowed for all between to be."""
        return self.choices or (self.low, self.high)


class SearchSettings(Settings):
    trials: Count = 20
    """Trainings that are tried. The best one becomes the candidate."""
    parameters: Annotated[dict[str, Range], Field(min_length=1)]
    """What is tried, by the setting's name: `learning_rate: {low: 1e-5, high: 1e-3, log: true}`, `lora.rank: {choices: [8, 16]}`;
    see "Search" in docs/training.md."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """`tpe` looks where good trials were (Bergstra et al., 2011), `random` anywhere; `grid` tries all combinations of `choices`, as
    many as there are trials."""
    random_trials: Count = 8
    """So many trials come before `tpe` looks at any."""
    pruner: Literal["median", "none"] = "median"
    """`median` stops a trial whose validation loss is worse than the median of the others' at the same step."""
    trials_before_pruning: Count = 4
    """So many trials run to their end before one is stopped."""
    seed: Seed = 17
    """Seeds what is tried."""

    @model_validator(mode="after")
    def has_a_grid(self) -> SearchSettings:
        ranges = [name for name, each in self.parameters.items() if not each.choices]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"sampler: grid needs `choices` for {ranges[0]}")
        return self


def require_searchable(search: SearchSettings, settings: TrainingFields) -> None:
    """Raises ValueError if a parameter is no setting of the training, or the training refuses a value of it."""
    if settings.objective == "grpo":
        raise ValueError("`search` compares validation losses, and objective: grpo has none")
    if not settings.evaluations_per_epoch:
        raise ValueError("`search` compares validation losses: set evaluations_per_epoch")
    for name, each in search.parameters.items():
        changes = name.split(".")[0] in CHANGES_THE_MEASURE
        if changes or (settings.objective == "dpo" and name == "label_smoothing"):
            raise ValueError(f"search.parameters.{name} cannot be searched: it changes what the validation loss means")
        kind = type_of(type(settings), name, each)
        if each.choices is None and kind is None:
            raise ValueError(f"search.parameters.{name} is no number: give `choices`")
        for value in each.ends():
            try:
                with_values(settings, {name: as_kind(value, kind)})
            except ValidationError as error:
                told = error.errors()[0]["msg"].replace("Value error, ", "").replace("Input should", "it should")
                raise ValueError(f"search.parameters.{name} may not be {value!r}: {told}") from error


def type_of(kind: type[TrainingFields], name: str, values: Range) -> type[int] | type[float] | None:
    """Of the setting with a dotted name; None for one that is no number. Raises ValueError if there is none.

    Of a field under `trainer`, choices are taken as they are written, and a range is one of floats.
    """
    parts = name.split(".")
    if parts[0] == "trainer" and len(parts) == 2:
        return None if values.choices else float
    model: Any = kind
    annotation: Any = None
    for depth, part in enumerate(parts):
        known = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        if part not in known:
            near = difflib.get_close_matches(part, known, n=1, cutoff=0.4)
            hint = f"did you mean `{'.'.join([*parts[:depth], near[0]])}`?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"search.parameters.{name} is no setting of a training; {hint}")
        annotation = known[part].annotation
        model = annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        raise ValueError(f"search.parameters.{name} is a section: name a setting in it")
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = set(typing.get_args(annotation)) if is_union else {annotation}
    kinds = {typing.get_args(each)[0] if typing.get_origin(each) is Annotated else each for each in kinds}
    return float if float in kinds else int if int in kinds and bool not in kinds else None


def as_kind(value: Any, kind: type[int] | type[float] | None) -> Any:
    """A whole number where a float is wanted is one: `low: 0`."""
    return float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value


def with_values(settings: Trained, values: dict[str, Any]) -> Trained:
    """The settings with the values of some of them, by dotted name. Raises ValidationError if one may not be."""
    content = settings.model_dump()
    content.pop("search", None)
    for name, value in values.items():
        *sections, last = name.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[last] = tuple(value) if isinstance(value, list) else value
    return type(settings).model_validate(content)
