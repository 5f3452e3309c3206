"""Notes below the scores: degenerate answers by reason, and targets that are longer than an answer may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def answer_notes(metrics: Any, roles: Sequence[str]) -> list[str]:
    """A line per model and family with degenerate answers, and a line per family with targets that are too long.

    Args:
        metrics: the content of data/reports/metrics.json, or None.
    """
    models = metrics["models"] if metrics else {}
    notes = []
    for role in (role for role in roles if role in models):
        for family, measured in models[role]["families"].items():
            counts = dict(measured.get("degenerate") or {"rows": 0})
            if number := counts.pop("rows"):
                commonest_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
                reasons = ", ".join(f"{reason} {count:,}" for reason, count in commonest_first if count)
                notes.append(f"{role}: {number:,} of {measured['rows']:,} answers of {family} score 0 ({reasons})")
    for family, measured in (models.get("candidate") or {"families": {}})["families"].items():
        if number := measured.get("target_too_long"):
            notes.append(
                f"{number:,} of {measured['rows']:,} targets of {family} are longer than evaluate.max_new_tokens: raise it"
            )
    return notes
