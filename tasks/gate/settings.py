"""Settings of room `gate`: the policy that decides whether a model passes."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tasks.runtime.base_settings import Seed, Settings

Score = Annotated[float, Field(ge=0, le=1)]
Tier = Literal["critical", "supporting", "advisory"]
SliceName = Literal["language", "source", "kind", "label", "freshness", "length"]


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
    slices: tuple[SliceName, ...] = ("language",)
    """Parts of a family in which the candidate must not be shown to be worse by more than the margin: by language of the row,
    source, kind of its answer, label, freshness (`new`: collected since the champion's training) or length of the target."""
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

    @field_validator("tiers")
    @classmethod
    def _better_is_critical(cls, tiers: dict[str, Tier]) -> dict[str, Tier]:
        if tiers.get("better", "critical") != "critical":
            raise ValueError("`better` is always critical: no model is promoted that is not shown to be better")
        return tiers
