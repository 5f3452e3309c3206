"""Tests of "the candidate is better", over families with unlike metrics. Arrays in, numbers out. Pure.

Scores of unlike metrics are never averaged. Each family has its own scale, the root mean square of its non-zero differences, and

    T = sum over families of weight * (sum of its differences) / scale

so that each row on which the models differ counts once, times the weight of its family. Under the hypothesis that the two models
could have swapped their answers, every difference has a random sign: the sign-flip distribution of T is exact. Where all scores are
right or wrong and all weights are equal, it is that of McNemar's test. Other scores must also pass a bootstrap of T, stratified by
family: a bootstrap alone rejects too often in the far tail, which decides at a later look at the same test rows. Its scale has the
bootstrap's half rows too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import bdtr, ndtr, ndtri

from tasks.scoring.resampling import Scores, flipped_sums, resampling_p, weighted_means
from tasks.scoring.statistics import is_binary, tango_score
from tasks.state.verdict import MANY_ROWS

Method = Literal["exact McNemar", "sign flips", "sign flips and bootstrap"]
POWER = 0.8
"""The probability with which a gain is detected, in `detectable_gain` and `rows_for_superiority`."""


class Superiority(NamedTuple):
    """The result of a one-sided test of "the candidate is better"."""

    p: float
    method: Method


@dataclass(frozen=True)
class PairedFamily:
    """The scores of two models on the same rows of one family."""

    reference: Scores
    candidate: Scores
    weight: float = 1.0

    @cached_property
    def differences(self) -> Scores:
        return self.candidate - self.reference

    @cached_property
    def differing(self) -> Scores:
        """The differences that are not zero."""
        return np.asarray(self.differences[self.differences != 0], dtype=np.float64)

    @property
    def factor(self) -> float:
        """The factor of the family's differences in T; 0 without a difference."""
        return self.weight / math.sqrt(float(np.mean(self.differing**2))) if len(self.differing) else 0.0

    @property
    def bootstrap_factor(self) -> float:
        """The factor in the bootstrap of T: the scale has its half rows at -1 and 1 too. With the scale of the differences alone, a
        family in which one answer changed a little would have half rows of the size of a thousand rows."""
        return self.weight / math.sqrt((float(np.sum(self.differing**2)) + 1) / (len(self.differing) + 1))


def superiority_test(
    families: Sequence[PairedFamily],
    *,
    level: float,
    samples: int,
    seed: int | list[int],
    least_gain: float = 0.0,
) -> Superiority:
    """Tests "the candidate is better" at `level`: significant if p <= level.

    A p clearly above `level` is computed from `samples` resamples; one that may be below it from as many as that needs.

    Args:
        least_gain: the gain in each family, in score points from 0 to 1, that the candidate must exceed; by the bootstrap.
    """
    is_right_or_wrong = all(is_binary(family.reference, family.candidate) for family in families)
    is_exact = is_right_or_wrong and len({family.weight for family in families}) <= 1
    rng = np.random.default_rng(seed)
    if is_exact:
        differing = np.concatenate([family.differing for family in families]) if families else np.zeros(0)
        p, method = mcnemar_p(int((differing > 0).sum()), int((differing < 0).sum())), "exact McNemar"
    else:
        p, method = _sign_flip_p(families, level, samples, rng), "sign flips"
    if p > level or (is_right_or_wrong and least_gain == 0):
        return Superiority(p, method)  # type: ignore[arg-type]
    return Superiority(max(p, _bootstrap_p(families, least_gain, level, samples, rng)), "sign flips and bootstrap")


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact one-sided McNemar: the chance of at least `gained` heads in gained + lost fair tosses; 1 without any."""
    return 1.0 if gained == 0 else float(bdtr(lost, gained + lost, 0.5))


def _sign_flip_p(families: Sequence[PairedFamily], level: float, samples: int, rng: np.random.Generator) -> float:
    terms = np.concatenate([family.factor * family.differing for family in families])
    if len(terms) == 0:
        return 1.0
    flipped = flipped_sums(terms, rng)
    observed = float(terms.sum())
    slack = 1e-9 * float(np.abs(terms).sum())  # a sum equal but for rounding counts as equal
    return resampling_p(lambda size: flipped(size) >= observed - slack, len(terms), level, samples)


def _bootstrap_p(
    families: Sequence[PairedFamily], least_gain: float, level: float, samples: int, rng: np.random.Generator
) -> float:
    """Share of resamples in which T, with `least_gain` taken from every difference, is not above 0."""
    draws = [
        (weighted_means(family.differences, -1.0, 1.0, rng), family.bootstrap_factor * len(family.differences))
        for family in families
        if len(family.differing)
    ]
    width = sum(len(family.differences) for family in families)

    def is_against(size: int) -> np.ndarray:
        total = sum(factor * (means(size) - least_gain) for means, factor in draws)
        return np.asarray(total <= 0)

    return resampling_p(is_against, width, level, samples)


def harm_p(
    reference: Scores, candidate: Scores, *, margin: float, level: float, samples: int, seed: int | list[int]
) -> float:
    """One-sided p of "the candidate is worse by more than `margin`": Tango's score test if all scores are 0 or 1, else the
    bootstrap. 1 without rows."""
    differences = candidate - reference
    if not len(differences):
        return 1.0
    if is_binary(reference, candidate):
        gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
        return float(ndtr(tango_score(-margin, gained, lost, len(differences))))
    means = weighted_means(differences, -1.0, 1.0, np.random.default_rng(seed))
    return resampling_p(lambda size: means(size) >= -margin, len(differences), level, samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order of the input. S. Holm, A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 6 (1979) 65-70."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable_gain(families: Sequence[PairedFamily], level: float, least_gain: float = 0.0) -> float:
    """The gain, equal in all families and in score points, that is detected at `level` with probability POWER.

    Normal approximation, with one more difference of size 1 in each family: few rows never detect a small gain.
    """
    variance = sum(family.weight**2 * (len(family.differing) + 1) for family in families)
    slope = sum(family.bootstrap_factor * len(family.differences) for family in families)
    return min(1.0, least_gain + _z_sum(level) * math.sqrt(variance) / slope) if slope else 1.0


def rows_for_superiority(families: Sequence[PairedFamily], level: float, least_gain: float = 0.0) -> int | None:
    """How many further rows like these show the observed gain at `level`, with probability POWER; None without a gain of more than
    `least_gain`. Where the bootstrap decides too, it has the rows that the slower of the two tests needs."""
    observed = sum(family.factor * float(family.differing.sum()) for family in families)
    variance = sum(family.weight**2 * len(family.differing) for family in families)
    tests = [(observed, variance)]
    if least_gain or not all(is_binary(family.reference, family.candidate) for family in families):
        moved = [family for family in families if len(family.differing)]
        observed = sum(family.bootstrap_factor * float((family.differences - least_gain).sum()) for family in moved)
        if (
            observed > 0 or least_gain
        ):  # without it, the half rows alone may hide a gain: rows like these outnumber them
            tests.append((observed, sum(family.weight**2 * (len(family.differing) + 1) for family in moved)))
    if any(observed <= 0 for observed, _ in tests):
        return None
    rows = sum(len(family.differences) for family in families)
    factor = max((_z_sum(level) * math.sqrt(variance) / observed) ** 2 for observed, variance in tests)
    return max(1, min(MANY_ROWS, math.ceil(rows * (factor - 1))))


def _z_sum(level: float) -> float:
    return float(-ndtri(level) + ndtri(POWER))
