"""Settings of room `gate`: the policy that decides whether a model passes."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from tasks.gate.number_paths import split_path
from tasks.runtime.base_settings import Seed, Settings

Score = Annotated[float, Field(ge=0, le=1)]
Tier = Literal["critical", "supporting", "advisory"]
SliceName = Literal["language", "source", "kind", "label", "freshness", "length"]
CONDITION_NAME = r"^[^\W\d]\w*$"


class SliceCondition(Settings):
    name: Annotated[str, Field(pattern=CONDITION_NAME, max_length=40)]
    """Its name in the verdict: letters, digits and `_`."""
    where: Annotated[str, Field(min_length=1)]
    """The condition on a row, in the language and with the columns of the contract's rules: `language == 'zh' and length(output) >
    200`; also with `row_id`, `batch`, `use`, `kind`, and the rendered `prompt` and `target`. So does `strop compare --slice`."""


Slice = Annotated[
    Annotated[SliceName, Tag("tagged-name")] | Annotated[SliceCondition, Tag("tagged-condition")],
    Discriminator(lambda value: "tagged-name" if isinstance(value, str) else "tagged-condition"),
]


class Limit(Settings):
    at_least: float | None = None
    """The number is at least this value."""
    at_most: float | None = None
    """The number is at most this value."""
    at_least_times_champion: Annotated[float, Field(gt=0)] | None = None
    """The number is at least this many times the champion's (the base's, without a champion)."""
    at_most_times_champion: Annotated[float, Field(gt=0)] | None = None
    """The number is at most this many times the champion's."""
    at_most_below_champion: Annotated[float, Field(ge=0)] | None = None
    """The number is at most this much lower than the champion's."""
    at_most_above_champion: Annotated[float, Field(ge=0)] | None = None
    """The number is at most this much higher than the champion's."""
    whole_interval: bool = False
    """`at_least` and `at_most` hold for both ends of the number's interval, not only for the number. If the interval contains a
    bound, the verdict is inconclusive. Only for numbers of rows: scores, drops, gaps, shares and counts of answers."""

    def set_bounds(self) -> list[tuple[str, float]]:
        """(name, value) of the bounds that are set."""
        return [(name, value) for name in self._bounds() if (value := getattr(self, name)) is not None]

    @classmethod
    def _bounds(cls) -> list[str]:
        return [name for name in cls.model_fields if name != "whole_interval"]

    @property
    def is_relative(self) -> bool:
        return any(name.endswith("_champion") for name, _ in self.set_bounds())

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if not self.set_bounds():
            raise ValueError(f"has no bound; set one of {', '.join(self._bounds())}")
        if self.whole_interval and self.is_relative:
            raise ValueError(
                "whole_interval is for `at_least` and `at_most`: there is no interval of a difference to the champion"
            )
        return self


class FamilyPolicy(Settings):
    floor: Score | None = None
    """Minimum of the candidate's score in this family; replaces the gate's general floor."""
    margin: Score | None = None
    """How much lower than the champion's the score of this family may be; replaces the gate's general margin."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Weight of this family in `better`: each row on which the models differ counts this much, in units of the root mean square
    difference of its family."""


class GateSettings(Settings):
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability that a model no better than the champion is promoted by any number of verdicts on the same test rows: the k-th
    spends alpha / (k (k + 1)). Fresh test rows restore it: every doubling of the test set all of it."""
    canary_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The part of each look's level that is kept for a canary of the candidate (`strop canary`): `better` is tested at the rest, so
    that verdict and canary together spend what the look spends. At 0, users' ratings cannot promote an inconclusive candidate."""
    margin: Score = 0.05
    """A family is `not worse` if the lower bound of the paired interval of (candidate - champion) is above minus this value."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the paired intervals (two-sided)."""
    min_rows: Annotated[int, Field(ge=2)] = 20
    """A family with fewer test rows is reported, but can neither pass nor block."""
    floor: Score = 0.0
    """Minimum of the candidate's score in each family. There is no floor over all families: scores of unlike metrics have no
    common mean."""
    golden_score: Score | None = None
    """Minimum score of every single test row from a source with `use: golden`; without it, they are test rows like others."""
    max_degenerate: Score = 0.5
    """Maximum share of degenerate answers (empty, in a loop, cut off, in the wrong script, with leaked control tokens) in a family.
    At any share, the candidate must not be shown to have more of them than the champion."""
    max_personal_data: Score = 0.05
    """Maximum share of answers in a family with personal data that neither the prompt nor the target has. At any share, the
    candidate must not be shown to have more of them than the champion."""
    least_gain: Score = 0.0
    """The gain worth a promotion, in score points in each family: `better` must be shown for more than this gain."""
    slices: tuple[Slice, ...] = ("language",)
    """Parts of a family in which the candidate must not be shown to be worse by more than the margin: by `language` of the row,
    `source`, `kind` of its answer, `label`, `freshness` (`new`: collected since the champion's training) or `length` of the prompt
    (thirds), or by a condition of your own: `{name: long_chinese, where: "language == 'zh' and length(output) > 200"}`."""
    limits: dict[str, Limit] = {}
    """Bounds on any number of the candidate in metrics.json, by its path below `models.candidate`: `{size.bytes:
    {at_most_times_champion: 1.2}, robustness.typos.drop: {at_most: 0.1}}`. A name with a dot is in double quotes. A number that was
    not measured fails. The checks are named `limits/<path>`, also in `gate.tiers`."""
    tiers: dict[str, Tier] = {}
    """Tiers of checks, by name (`not_worse`, `slices`) or with a family (`not_worse/qa`); by default `critical`, and `inference`
    `supporting`. A failed `critical` check refuses the candidate. A failed `supporting` check makes the verdict inconclusive. An
    `advisory` check is only reported. `better` is always critical."""
    families: dict[str, FamilyPolicy] = {}
    """Policies of single families, by name."""
    bootstrap_samples: Annotated[int, Field(ge=500)] = 5000
    """Resamples of the paired bootstrap."""
    seed: Seed = 17
    """Seeds the bootstrap."""

    @field_validator("limits")
    @classmethod
    def _are_paths(cls, limits: dict[str, Limit]) -> dict[str, Limit]:
        for path in limits:
            split_path(path)
        return limits

    @field_validator("slices")
    @classmethod
    def _names_are_unique(cls, slices: tuple[str | SliceCondition, ...]) -> tuple[str | SliceCondition, ...]:
        names = [each if isinstance(each, str) else each.name for each in slices]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"`{repeated[0]}` is the name of two slices")
        return slices

    @field_validator("tiers")
    @classmethod
    def _better_is_critical(cls, tiers: dict[str, Tier]) -> dict[str, Tier]:
        if tiers.get("better", "critical") != "critical":
            raise ValueError("`better` is always critical: no model is promoted that is not shown to be better")
        return tiers
