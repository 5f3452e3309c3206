"""The check `floor`: the candidate's own score is high enough."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tasks.gate.check import Check, GateInput
from tasks.gate.pairing import PairedScores
from tasks.scoring import statistics


def check_floor(gate: GateInput) -> Iterator[Check]:
    """`floor/<family>`, where a floor is set: `gate.families.<family>.floor`, else `gate.floor`.

    Scores of unlike metrics have no common mean, so there is no floor over all families.
    """
    for family in gate.families:
        floor = gate.policy(family).floor
        bound = gate.settings.floor if floor is None else floor
        if bound > 0:
            yield _floor(gate, family, gate.scores.of({family}), bound)


def _floor(gate: GateInput, family: str, scores: PairedScores, bound: float) -> Check:
    name, counts = f"floor/{family}", family in gate.eligible
    if not len(scores):
        return Check(name, family, None, None, bound, None, 0, gate.too_few(0))
    score = float(scores.own.mean())
    interval = statistics.score_interval(
        scores.own,
        confidence=gate.settings.confidence,
        samples=gate.settings.bootstrap_samples,
        seed=gate.seed(name),
    )
    detail = f"the candidate scores {score:.3f}, the floor is {bound:.3f}"
    passed = (
        score >= bound or math.isclose(score, bound) if counts else None
    )  # the mean of 0.7, 0.7, ... may be just below it
    return Check(
        name,
        family,
        passed,
        score,
        bound,
        interval,
        len(scores),
        gate.with_row_count(detail, counts, len(scores)),
    )
