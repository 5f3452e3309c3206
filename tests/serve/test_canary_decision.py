"""What follows from ratings: harm takes back, a benefit promotes, a version that passed needs no benefit, and time ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.model_store.canaries import Canary, CanaryPlan
from tasks.model_store.ledger import Entry
from tasks.runtime.files import canonical_json
from tasks.serve.canary.decision import decide
from tasks.serve.canary.units import UnitValue
from tasks.serve.canary_settings import CanarySettings

PLAN = CanaryPlan(champion=1, share=0.5, level=0.0125, alpha=0.05, margin=0.0, after_ratings=0, days=2.0)
BEGAN = "2026-11-30T08:00:00+00:00"
START = 1796025600.0


def canary(outcome: str = "passed", **plan: Any) -> Canary:
    is_passed = outcome == "passed"
    entry = Entry("canary", 2, "w", "r", "v", "d", is_passed, 1, 9, "安", BEGAN, "试用", "c", outcome)
    return Canary("3f2a" * 10, entry, replace(PLAN, **plan))


def units(count: int, of_champion: float, of_canary: float, share: float = 0.5) -> list[UnitValue]:
    chance = np.random.default_rng(7)
    arms = chance.random(count) < share
    good = chance.random(count) < np.where(arms, of_canary, of_champion)
    return [
        UnitValue(f"u{number}", float(value), bool(arm), 0.0)
        for number, (value, arm) in enumerate(zip(good, arms, strict=True))
    ]


@pytest.mark.parametrize(
    ("changes", "of_canary", "days", "kind", "why"),
    [
        ({}, 0.3, 1, "take_back", "its answers were rated worse than those of v1: 400 rated units, "),
        ({"outcome": "inconclusive"}, 0.3, 1, "take_back", "its answers were rated worse"),
        ({"outcome": "inconclusive"}, 0.95, 1, "promote", "its answers were rated better than those of v1"),
        ({"outcome": "inconclusive", "level": 0.0}, 0.95, 1, "go_on", "400 rated units"),
        ({"outcome": "inconclusive", "after_ratings": 300, "margin": 0.9}, 0.6, 1, "go_on", "400 rated units"),
        ({"after_ratings": 400}, 0.6, 1, "promote", "its answers were not shown to be rated worse than those of v1"),
        ({"after_ratings": 400}, 0.3, 1, "take_back", "its answers were rated worse"),
        ({"after_ratings": 401}, 0.6, 1, "go_on", "400 rated units"),
        ({"margin": 0.4}, 0.6, 1, "promote", "its answers were rated worse than those of v1 by less than 0.4"),
        ({"margin": 0.02}, 0.6, 1, "go_on", "400 rated units"),
        ({}, 0.6, 2, "undecided", "nothing was shown in 2 days: 400 rated units"),
        ({}, 0.3, 2, "take_back", "its answers were rated worse"),
    ],
)
def test_the_decision_follows_from_ratings_verdict_and_time(
    changes: dict[str, Any], of_canary: float, days: float, kind: str, why: str
) -> None:
    decision = decide(canary(**changes), units(400, 0.6, of_canary), START + days * 86_400)
    assert (decision.kind, decision.why[: len(why)]) == (kind, why)
    assert bool(decision.missing) == (kind == "go_on")


def test_without_a_rating_it_goes_on_and_says_what_is_missing() -> None:
    decision = decide(canary(margin=0.05, after_ratings=1000), [], START)
    assert decision.kind == "go_on"
    assert decision.missing == (
        "take back: evidence of harm 1.00, needs 20",
        "promote: evidence of a benefit 1.00, needs 80",
        "promote: lower bound of the difference -1.00, needs more than -0.05",
        "promote without harm: 0 rated units, needs 1,000",
    )
    assert canonical_json(decision.numbers()), "also without a difference: it is no NaN"


def test_the_numbers_in_the_ledger_depend_on_every_unit() -> None:
    rated = units(50, 0.6, 0.6)
    numbers = decide(canary(), rated, START).numbers()
    assert numbers == decide(canary(), rated, START).numbers()
    assert (numbers["ratings"], numbers["of_canary"]) == (50, sum(unit.in_canary for unit in rated))
    assert numbers["bounds"][0] < numbers["difference"] < numbers["bounds"][1]
    others = [*rated[:-1], replace(rated[-1], unit="另一个")]
    assert decide(canary(), others, START).units_digest != numbers["units"]


def test_an_entry_without_a_readable_time_ends_undecided() -> None:
    broken = canary()
    assert decide(replace(broken, entry=replace(broken.entry, when="yesterday")), [], START).kind == "undecided"


def test_the_plan_has_every_setting() -> None:
    settings = CanarySettings(share=0.2, by="user", margin=0.01, after_ratings=7, days=3, settle_hours=2, per_user=1)
    assert settings.plan(0.04) == CanaryPlan(0, 0.2, "user", 0.0, 0.04, 0.01, 7, 3.0, 2.0, 1)
