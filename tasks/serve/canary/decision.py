"""What follows from the ratings of a canary: promote it, go on, take it back, or end it undecided. Pure.

decision = decide(canary, units, now=time.time())
decision.kind, decision.why, decision.missing
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tasks.model_store.canaries import Canary, CanaryPlan
from tasks.runtime.files import content_digest
from tasks.runtime.plurals import count_of
from tasks.scoring.sequential import Evidence, difference_bounds, weigh
from tasks.serve.canary.units import UnitValue

DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Decision:
    kind: Literal["promote", "go_on", "take_back", "undecided"]
    why: str
    """The reason, in a sentence for the ledger."""
    evidence: Evidence
    bounds: tuple[float, float]
    """Of the mean of canary minus champion, over all ratings up to now."""
    units_digest: str
    """Of the units, their values and who answered them."""
    missing: tuple[str, ...] = ()
    """If it goes on: what each way out still needs."""

    def numbers(self) -> dict[str, Any]:
        """For the ledger and for programs: JSON, with six significant digits."""
        evidence = self.evidence
        difference = None if math.isnan(evidence.difference) else float(f"{evidence.difference:.6g}")
        return {
            "ratings": evidence.ratings,
            "of_canary": evidence.of_canary,
            "benefit": float(f"{evidence.benefit:.6g}"),
            "harm": float(f"{evidence.harm:.6g}"),
            "difference": difference,
            "bounds": [float(f"{bound:.6g}") for bound in self.bounds],
            "units": self.units_digest,
        }


def decide(canary: Canary, units: Sequence[UnitValue], now: float) -> Decision:
    """The decision on the units that have settled by now.

    Harm decides first, then a benefit. A version that passed the gate needs no benefit: it is promoted when the lower bound of the
    difference is above minus the margin, or after `after_ratings` units without harm.
    """
    plan = canary.plan
    values, arms = [unit.value for unit in units], [unit.in_canary for unit in units]
    evidence = weigh(values, arms, plan.share)
    bounds = difference_bounds(values, arms, plan.share, plan.alpha)
    digest = content_digest([[unit.unit, unit.value, unit.in_canary] for unit in units])
    kind, why = _decide(canary, evidence, bounds[0], now)
    missing = tuple(_missing(canary, evidence, bounds[0])) if kind == "go_on" else ()
    return Decision(kind, why, evidence, bounds, digest, missing)


def _decide(
    canary: Canary, evidence: Evidence, low: float, now: float
) -> tuple[Literal["promote", "go_on", "take_back", "undecided"], str]:
    plan, passed = canary.plan, canary.entry.passed
    ratings = f"{count_of(evidence.ratings, 'rated unit')}, {evidence.of_canary:,} of the canary"
    numbers = f"{ratings}, difference {evidence.difference:+.3f}" if evidence.ratings else ratings
    if evidence.harm >= 1 / plan.alpha:
        return "take_back", f"its answers were rated worse than those of v{plan.champion}: {numbers}"
    if plan.level > 0 and evidence.benefit >= 1 / plan.level:
        return "promote", f"its answers were rated better than those of v{plan.champion}: {numbers}"
    if passed and plan.margin > 0 and low > -plan.margin:
        return (
            "promote",
            f"its answers were rated worse than those of v{plan.champion} by less than {plan.margin:g}: {numbers}",
        )
    if passed and 0 < plan.after_ratings <= evidence.ratings:
        return "promote", f"its answers were not shown to be rated worse than those of v{plan.champion}: {numbers}"
    if now >= end_of(canary):
        return "undecided", f"nothing was shown in {plan.days:g} days: {numbers}"
    return "go_on", numbers


def end_of(canary: Canary) -> float:
    """When it ends undecided, in seconds since 1970."""
    return began(canary) + canary.plan.days * DAY_SECONDS


def began(canary: Canary) -> float:
    """In seconds since 1970; 0 where the entry has no readable time."""
    try:
        return datetime.fromisoformat(canary.entry.when).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _missing(canary: Canary, evidence: Evidence, low: float) -> list[str]:
    plan: CanaryPlan = canary.plan
    lines = [f"take back: evidence of harm {evidence.harm:,.2f}, needs {1 / plan.alpha:,.0f}"]
    if plan.level > 0:
        lines.append(f"promote: evidence of a benefit {evidence.benefit:,.2f}, needs {1 / plan.level:,.0f}")
    if canary.entry.passed and plan.margin > 0:
        lines.append(f"promote: lower bound of the difference {low:+.2f}, needs more than {-plan.margin:+.2f}")
    if canary.entry.passed and plan.after_ratings:
        lines.append(f"promote without harm: {evidence.ratings:,} rated units, needs {plan.after_ratings:,}")
    return lines
