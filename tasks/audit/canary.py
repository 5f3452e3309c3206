"""Audit of the level that a version's verdict keeps for a canary, and of the canaries that used it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tasks.model_store.canaries import plan_of
from tasks.model_store.ledger_entries import Entry
from tasks.state.alpha_spending import next_share, restored

TOLERANCE = 1e-5
"""Relative: the verdict has six significant digits."""


def canary_level_problems(receipt: Mapping[str, Any], entries: Iterable[Entry]) -> Iterator[str]:
    """Recomputes the level from the parameters, the round and the test rows of the receipt. No canary may use a higher one."""
    verdict = receipt["verdict"]
    recorded, expected = verdict.get("canary_level", 0.0), _expected_level(receipt)
    if abs(recorded - expected) > TOLERANCE * expected:
        yield f"its canary_level is {recorded:g}, but its parameters and its round give {expected:g}"
    for entry in entries:
        plan = plan_of(entry) if entry.kind == "canary" else None
        if plan is not None and plan.level > recorded * (1 + TOLERANCE):
            yield f"its canary of {entry.when} has the level {plan.level:g}, but the verdict keeps {recorded:g} for it"


def _expected_level(receipt: Mapping[str, Any]) -> float:
    gate = receipt["params"]["gate"]
    share = gate.get("canary_share", 0.0)  # not in receipts of earlier releases
    if not share:
        return 0.0
    round_, rows = receipt["round"], receipt["verdict"]["test_rows"]
    level = gate["alpha"] * next_share(restored(round_["alpha_spent"], rows, round_["most_rows"]))
    return float(share * level)
