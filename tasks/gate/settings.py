"""Settings of room `gate`: the policy by which a model is let through."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Seed, Settings

Score = Annotated[float, Field(ge=0, le=1)]


class FamilyPolicy(Settings):
    floor: Score | None = None
    """The candidate's score in this family must be at least this."""
    margin: Score | None = None
    """How much worse than the champion the family may be, in score; replaces the gate's own margin."""


class GateSettings(Settings):
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance that a model no better than the one in service is promoted, over a whole test epoch: the k-th look at the same
    test rows spends alpha / (k (k + 1)) of it."""
    margin: Score = 0.05
    """A family is `not worse` when the lower bound of the paired interval of (candidate - champion) is above minus this."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the paired intervals (two-sided)."""
    min_rows: Annotated[int, Field(ge=2)] = 20
    """A family with fewer test rows is reported, and can neither pass nor block."""
    floor: Score = 0.0
    """The candidate's overall score must be at least this."""
    families: dict[str, FamilyPolicy] = {}
    """Policies of single families, by name."""
    bootstrap_samples: Annotated[int, Field(ge=500)] = 5000
    """Resamples of the paired bootstrap."""
    seed: Seed = 17
    """Seeds the bootstrap."""
