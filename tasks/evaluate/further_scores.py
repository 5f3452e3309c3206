"""The scores of the further tests (further_tests.py) in metrics.json, as lines for logs and reports. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class FurtherScore:
    name: str
    """ `anchors: qa`, `arc_easy: acc`, `3 shots: qa`."""
    rows: int
    scores: dict[str, Entry]
    """Role → an object with `score` and `interval`."""


def further_scores(models: Mapping[str, Entry]) -> list[FurtherScore]:
    """The scores of all models, by test and family or metric.

    Args:
        models: role → its entry in metrics.json.
    """
    scores: dict[str, FurtherScore] = {}
    for role, model in models.items():
        for test, name, entry, rows in _scores_of(model):
            scores.setdefault(f"{test}: {name}", FurtherScore(f"{test}: {name}", rows, {})).scores[role] = entry
    return list(scores.values())


def further_problems(model: Entry) -> dict[str, str]:
    """Test → why it has no number."""
    return {name: test["problem"] for name, test in model.get("forgetting", {}).items() if "problem" in test}


def _scores_of(model: Entry) -> Iterator[tuple[str, str, Entry, int]]:
    tests = {**model.get("forgetting", {}), **{f"{n} shots": test for n, test in model.get("shots", {}).items()}}
    for test, measured in tests.items():
        for name, entry in measured.get("families", measured).items():
            if isinstance(entry, Mapping) and isinstance(entry.get("score"), float):
                yield test, name, entry, entry.get("rows", measured["rows"])
