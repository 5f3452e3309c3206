"""The checks `degenerate` and `personal_data`: few answers have a fault that no score makes good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tasks.gate.check import Check, GateInput
from tasks.gate.pairing import REFERENCE, PairedScores
from tasks.scoring.statistics import wilson_interval


def check_degenerate(gate: GateInput) -> Iterator[Check]:
    """Answers that are loops, cut off, empty (tasks/scoring/degenerate_answers.py): they score 0, but so does a wrong answer, and
    a model that is right more often must not answer the rest with loops."""
    yield from _check_flag(gate, "degenerate", gate.settings.max_degenerate, "are degenerate")


def check_personal_data(gate: GateInput) -> Iterator[Check]:
    """Answers with personal data that neither prompt nor target has: the model recalls or invents it."""
    yield from _check_flag(gate, "personal_data", gate.settings.max_personal_data, "have personal data")


def _check_flag(gate: GateInput, column: str, bound: float, what: str) -> Iterator[Check]:
    """In every family, the share of answers with the fault is at most `bound`, and not shown to be above the reference's."""
    for family in gate.families:
        rows = gate.scores.of({family})
        before, now = rows.column(REFERENCE + column), rows.column(column)
        shares = replace(rows, reference=(before != "").astype(np.float64), candidate=(now != "").astype(np.float64))
        if shares.reference.any() or shares.candidate.any():
            counts = Counter(reason for value in now.tolist() if value for reason in value.split(","))
            yield _result(gate, f"{column}/{family}", family, shares, bound, what, counts)


def _result(
    gate: GateInput, name: str, family: str, rows: PairedScores, bound: float, what: str, reasons: Counter[str]
) -> Check:
    counts, is_more = family in gate.eligible, gate.difference(rows, name).low > 0
    share, before = float(rows.candidate.mean()), float(rows.reference.mean())
    interval = wilson_interval(float(rows.candidate.sum()), len(rows), gate.settings.confidence)
    passed = share <= bound and not is_more
    refusal = "shown to be more" if is_more else f"at most {bound:.1%} are allowed"
    counted = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items())) or "none"
    detail = (
        f"{share:.1%} of the answers {what} ({counted}), {before:.1%} of the reference's: "
        f"{'not shown to be more' if passed else refusal}"
    )
    detail = gate.with_row_count(detail, counts, len(rows))
    return Check(name, family, passed if counts else None, share, bound, interval, len(rows), detail)
