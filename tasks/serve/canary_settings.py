"""Settings of `serve.canary`: a version that answers a share of the users until their ratings decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.runtime.base_settings import Settings

if TYPE_CHECKING:
    from tasks.model_store.canaries import CanaryPlan


class CanarySettings(Settings):
    """They apply to the next canary: the plan of one that runs is in its ledger entry."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The part of the units that the canary answers; the champion answers the others. At a half, harm is shown after a third of the
    ratings, but half of the users meet it."""
    by: Literal["conversation", "user"] = "conversation"
    """What one model answers throughout: each `conversation` (by the client's `metadata.conversation`, else by its system turn and
    first user turn), or each `user`."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A version that passed the gate is promoted once its ratings, between 0 and 1, are shown to be lower by less than this; 0: it
    is not promoted for this reason."""
    after_ratings: Annotated[int, Field(ge=0)] = 1000
    """A version that passed the gate is promoted after this many rated units in which no harm was shown; 0: it is not promoted for
    this reason."""
    days: Annotated[float, Field(gt=0, le=3650)] = 14.0
    """After this time a canary ends undecided, and the champion stays."""
    settle_hours: Annotated[float, Field(ge=0, le=720)] = 1.0
    """Ratings of a unit count until this time after its first one."""
    per_user: Annotated[int, Field(ge=1)] = 5
    """How many units the ratings of one user count in."""

    def plan(self, alpha: float) -> CanaryPlan:
        """The plan of a canary. Its champion and the level of a benefit are set when it begins.

        Args:
            alpha: the level at which harm is shown.
        """
        from tasks.model_store.canaries import CanaryPlan

        return CanaryPlan(
            champion=0,
            share=self.share,
            by=self.by,
            alpha=alpha,
            margin=self.margin,
            after_ratings=self.after_ratings,
            days=self.days,
            settle_hours=self.settle_hours,
            per_user=self.per_user,
        )
