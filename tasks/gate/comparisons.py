"""The checks by family that the candidate is not worse than the reference."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tasks.gate.check import Check, GateInput
from tasks.gate.pairing import PairedScores
from tasks.scoring.non_inferiority import is_not_worse, is_worse
from tasks.scoring.statistics import Interval, is_binary, tango_interval
from tasks.state.verdict import MANY_ROWS


def check_not_worse(gate: GateInput) -> Iterator[Check]:
    """The lower bound of the paired interval of (candidate - reference) is above minus the margin, in every family.

    All must pass, so that more families make a promotion less likely, never more likely.
    """
    for family in gate.families:
        yield _not_worse(gate, family, gate.scores.of({family}))


def check_no_regression(gate: GateInput) -> Iterator[Check]:
    """On the test rows that existed when the champion was trained, the candidate is not shown to be worse.

    A new batch brings test rows of its own: a batch with wrong labels would favour the model that was trained on them. The earlier
    rows are fewer, so this check needs evidence of harm, not proof of harmlessness.
    """
    batches = gate.round_.champion.batches if gate.round_.champion else ()
    for family in gate.families:
        rows = gate.scores.of({family})
        established = rows.of_batches(batches)
        if 0 < len(established) < len(rows):
            yield _no_regression(gate, family, established)


def _not_worse(gate: GateInput, family: str, scores: PairedScores) -> Check:
    name, counts, margin = f"not_worse/{family}", family in gate.eligible, gate.margin(family)
    if not len(scores):
        return Check(name, family, None, None, 0.0 - margin, None, 0, gate.too_few(0))
    interval, difference = gate.difference(scores, name), mean_difference(scores)
    passed, needed = is_not_worse(interval, margin), None
    if passed:
        result = f"not worse by more than {margin:.3f}"
    elif is_worse(interval, margin):
        result = f"worse: the whole interval lies below {-margin:.3f}"
    else:
        needed = _rows_to_decide(scores, interval, gate.settings.confidence, -margin)
        result = f"not shown: the interval reaches below {-margin:.3f}; more test rows make it narrower"
    detail = gate.with_row_count(f"{shown_difference(difference, interval)}, {result}", counts, len(scores))
    return Check(
        name, family, passed if counts else None, difference, 0.0 - margin, interval, len(scores), detail, needed
    )


def _no_regression(gate: GateInput, family: str, scores: PairedScores) -> Check:
    """Blocks where harm is shown (the whole interval below 0) and is not shown to stay within the margin."""
    name, counts, margin = f"no_regression/{family}", len(scores) >= gate.settings.min_rows, gate.margin(family)
    interval, difference = gate.difference(scores, name), mean_difference(scores)
    passed = interval.high >= 0 or is_not_worse(interval, margin)
    if passed:
        result = "not shown to be worse"
    elif is_worse(interval, margin):
        result = f"worse: the whole interval lies below {-margin:.3f}"
    else:
        result = "worse: the whole interval lies below 0"
    detail = f"{shown_difference(difference, interval)} on the {len(scores)} rows there before, {result}"
    detail = gate.with_row_count(detail, counts, len(scores))
    return Check(name, family, passed if counts else None, difference, 0.0 - margin, interval, len(scores), detail)


def mean_difference(scores: PairedScores) -> float:
    return float(np.mean(scores.candidate - scores.reference))


def shown_difference(difference: float, interval: Interval) -> str:
    return f"{difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _rows_to_decide(scores: PairedScores, interval: Interval, confidence: float, bound: float) -> int:
    """Further rows like these after which the interval of their difference no longer contains the bound."""
    rows, difference = len(scores), mean_difference(scores)
    low, high = 1.0, 1 + MANY_ROWS / rows  # factors of the number of rows
    while high - low > 0.5 / rows:
        factor = (low + high) / 2
        ends = _interval_of_more(scores, interval, difference, confidence, factor)
        low, high = (factor, high) if ends.low <= bound <= ends.high else (low, factor)
    return max(1, min(MANY_ROWS, math.ceil(rows * (high - 1))))


def _interval_of_more(
    scores: PairedScores, interval: Interval, difference: float, confidence: float, factor: float
) -> Interval:
    """The interval if there were `factor` times as many rows: exact for right/wrong scores, else its width falls with the root."""
    if is_binary(scores.reference, scores.candidate):
        gained, lost = (
            int((scores.candidate > scores.reference).sum()),
            int((scores.candidate < scores.reference).sum()),
        )
        return tango_interval(factor * gained, factor * lost, factor * len(scores), confidence)
    root = math.sqrt(factor)
    return Interval(difference - (difference - interval.low) / root, difference + (interval.high - difference) / root)
