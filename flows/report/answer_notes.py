"""Notes below the scores: degenerate answers by reason, targets that are longer than an answer may be, and the judge's verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.evaluate.judge.lines import judge_lines


def answer_notes(metrics: Any, roles: Sequence[str]) -> list[str]:
    """A line per model and family with degenerate answers, and a line per family with targets that are too long, and one
    per model and family whose answers were executed, and per family that the judge compared.

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
    for role in (role for role in roles if role in models):
        for family, measured in models[role].get("code", {}).items():
            outcomes = ", ".join(f"{reason} {count:,}" for reason, count in measured["outcomes"].items() if count)
            notes.append(f"{role}: {measured['rows']:,} answers of {family} ran with their tests: {outcomes}")
    return notes + judge_lines(metrics or {})
