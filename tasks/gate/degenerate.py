"""The check `degenerate`: few answers are loops, cut off or empty (tasks/scoring/degenerate_answers.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tasks.gate.check import Check, GateInput
from tasks.gate.pairing import REFERENCE_DEGENERATE, PairedScores


def check_degenerate(gate: GateInput) -> Iterator[Check]:
    """In every family, the share of degenerate answers is at most `max_degenerate`, and not shown to be above the reference's.

    They score 0, but so does a wrong answer: a model that is right more often must not answer the rest with loops.
    """
    for family in gate.families:
        rows = _as_shares(gate.scores.of({family}))
        if rows.reference.any() or rows.candidate.any():
            yield _degenerate(gate, family, rows)


def _as_shares(scores: PairedScores) -> PairedScores:
    """1 where an answer is degenerate, in place of its score."""
    reference, candidate = scores.column(REFERENCE_DEGENERATE), scores.column("degenerate")
    return replace(
        scores, reference=(reference != "").astype(np.float64), candidate=(candidate != "").astype(np.float64)
    )


def _degenerate(gate: GateInput, family: str, rows: PairedScores) -> Check:
    name, counts, bound = f"degenerate/{family}", family in gate.eligible, gate.settings.max_degenerate
    interval = gate.difference(rows, name)
    share, before = float(rows.candidate.mean()), float(rows.reference.mean())
    passed = share <= bound and interval.low <= 0
    refusal = "shown to be more" if interval.low > 0 else f"at most {bound:.1%} are allowed"
    result = "not shown to be more" if passed else refusal
    reasons, numbers = np.unique(rows.column("degenerate")[rows.candidate > 0], return_counts=True)
    counted = ", ".join(f"{number} {reason}" for reason, number in zip(reasons.tolist(), numbers.tolist(), strict=True))
    detail = (
        f"{share:.1%} of the answers are degenerate ({counted or 'none'}), {before:.1%} of the reference's: {result}"
    )
    detail = gate.with_row_count(detail, counts, len(rows))
    return Check(name, family, passed if counts else None, share, bound, interval, len(rows), detail)
