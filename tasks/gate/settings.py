"""Settings of room `gate`: the policy that decides whether a model passes."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Seed, Settings

Score = Annotated[float, Field(ge=0, le=1)]


class FamilyPolicy(Settings):
    floor: Score | None = None
    """Minimum of the candidate's score in this family."""
    margin: Score | None = None
    """How much lower than the champion's the score of this family may be; replaces the gate's general margin."""


class GateSettings(Settings):
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability that a model no better than the champion is promoted, over a whole test epoch: the k-th look at the same
    test rows spends alpha / (k (k + 1)) of it."""
    margin: Score = 0.05
    """A family is `not worse` if the lower bound of the paired interval of (candidate - champion) is above minus this value."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the paired intervals (two-sided)."""
    min_rows: Annotated[int, Field(ge=2)] = 20
    """A family with fewer test rows is reported, but can neither pass nor block."""
    floor: Score = 0.0
    """Minimum of the candidate's overall score."""
    families: dict[str, FamilyPolicy] = {}
    """Policies of single families, by name."""
    bootstrap_samples: Annotated[int, Field(ge=500)] = 5000
    """Resamples of the paired bootstrap."""
    seed: Seed = 17
    """Seeds the bootstrap."""
