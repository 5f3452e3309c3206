"""The statistics of the comparison of two models on the same rows: intervals, and tests of "better". Arrays in, numbers out.

Scores are in [0, 1]. Right/wrong scores get the classical small-sample methods: Wilson (1927) for one model's share,
Tango (1998) for the difference of two, exact McNemar for "better". All other scores get the bootstrap, with two precautions:

- Resampling alone gives an interval of width zero for twenty rows without a difference. So every bootstrap here also has half a
  row at either end of the scale: for right/wrong scores this is the Jeffreys interval, and few rows never give certainty. It is
  Rubin's (1981): rows get random weights.
- A bootstrap test rejects too often in the far tail, which decides at a later look at the same test rows. So "better" must also
  hold by a sign-flip test, which is exact if two equal models could have swapped answers; for right/wrong scores the
  sign-flip test *is* McNemar's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, ndtri

Scores = NDArray[np.float64]
Method = Literal["exact McNemar", "paired bootstrap"]

CELLS_AT_ONCE = 2_000_000
"""Random numbers in memory at once: 16 MB."""
RESOLUTION = 10
"""A test at level a draws at least RESOLUTION / a resamples, or its smallest possible p would be above a."""
MAX_RESAMPLES = 2_000_000
MOST_ATOMS = 2000
"""Up to this many distinct values are distinct in a bootstrap; more are rounded to thousandths: the errors average out."""


class Interval(NamedTuple):
    low: float
    high: float


class Superiority(NamedTuple):
    """The result of a one-sided test of "the candidate is better"."""

    p: float
    method: Method


def is_binary(*scores: Scores) -> bool:
    """Whether every score is 0 or 1."""
    return all(bool(np.isin(values, (0.0, 1.0)).all()) for values in scores)


def score_interval(scores: Scores, *, confidence: float, samples: int, seed: int | list[int]) -> Interval:
    """Interval of a model's mean score: Wilson if all are 0 or 1, else the bootstrap."""
    if is_binary(scores):
        return wilson_interval(float(scores.sum()), len(scores), confidence)
    return bootstrap_interval(scores, 0.0, 1.0, confidence=confidence, samples=samples, seed=seed)


def difference_interval(
    reference: Scores, candidate: Scores, *, confidence: float, samples: int, seed: int | list[int]
) -> Interval:
    """Paired interval of mean(candidate) - mean(reference): Tango if all scores are 0 or 1, else the bootstrap."""
    difference = candidate - reference
    if is_binary(reference, candidate):
        gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
        return tango_interval(gained, lost, len(difference), confidence)
    return bootstrap_interval(difference, -1.0, 1.0, confidence=confidence, samples=samples, seed=seed)


def superiority_test(
    reference: Scores, candidate: Scores, *, level: float, samples: int, seed: int | list[int]
) -> Superiority:
    """Tests "the candidate is better on these rows" at `level`: significant if p <= level."""
    difference = candidate - reference
    if is_binary(reference, candidate):
        return Superiority(mcnemar_p(int((difference > 0).sum()), int((difference < 0).sum())), "exact McNemar")
    p = paired_bootstrap_p(difference, level=level, samples=samples, seed=seed)
    return Superiority(p, "paired bootstrap")


def wilson_interval(successes: float, rows: int, confidence: float) -> Interval:
    """Wilson's score interval of a share; [0, 1] without rows."""
    if rows == 0:
        return Interval(0.0, 1.0)
    z = _z(confidence)
    share, extra = successes / rows, z * z / rows
    centre = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / rows + extra / (4 * rows))
    return Interval(min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


def tango_interval(gained: int, lost: int, rows: int, confidence: float) -> Interval:
    """Tango's score interval of (gained - lost) / rows, for rows that only one of two models has right.

    It keeps its coverage in small samples and without any discordant row. T. Tango, Equivalence test and confidence
    interval for the difference in proportions for the paired-sample design, Statistics in Medicine 17 (1998) 891-908.
    """
    if rows == 0:
        return Interval(-1.0, 1.0)
    z, estimate = _z(confidence), (gained - lost) / rows

    def excess(delta: float, target: float) -> float:
        return _tango_score(delta, gained, lost, rows) - target

    # the score falls from +inf at -1 to -inf at +1, but is 0/0 if the estimate is at an end
    low = -1.0 if lost == rows else float(brentq(excess, -1 + 1e-12, estimate, args=(z,), xtol=1e-10))
    high = 1.0 if gained == rows else float(brentq(excess, estimate, 1 - 1e-12, args=(-z,), xtol=1e-10))
    return Interval(low, high)


def _tango_score(delta: float, gained: int, lost: int, rows: int) -> float:
    """The score statistic of the hypothesis that the true difference is `delta`."""
    b = -gained - lost + (2 * rows - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    lost_share = (math.sqrt(max(b * b - 8 * rows * c, 0.0)) - b) / (4 * rows)  # likeliest share under the hypothesis
    variance = rows * (2 * lost_share + delta * (1 - delta))
    observed = gained - lost - rows * delta
    return observed / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, observed) if observed else 0.0


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact one-sided McNemar: the chance of at least `gained` heads in gained + lost fair tosses; 1 without any."""
    return 1.0 if gained == 0 else float(bdtr(lost, gained + lost, 0.5))


def bootstrap_interval(
    values: Scores, low: float, high: float, *, confidence: float, samples: int, seed: int | list[int]
) -> Interval:
    """Percentile interval of the mean of values that lie in [low, high]; it always contains the mean."""
    if len(values) == 0:
        return Interval(low, high)
    draw = _weighted_means(values, low, high, np.random.default_rng(seed))
    means = np.concatenate([draw(size) for size in _portions(samples, len(values))])
    tail = (1 - confidence) / 2
    bounds, mean = np.quantile(means, [tail, 1 - tail]), float(values.mean())
    return Interval(min(float(bounds[0]), mean), max(float(bounds[1]), mean))


def paired_bootstrap_p(differences: Scores, *, level: float, samples: int, seed: int | list[int]) -> float:
    """One-sided p of "the mean difference is above 0": the larger one of the bootstrap and the sign-flip test.

    A p clearly above `level` is computed from `samples` resamples; one that may be below it from as many as that needs.
    """
    differing = differences[differences != 0]
    if len(differing) == 0:
        return 1.0
    rng = np.random.default_rng(seed)
    flipped = _flipped_sums(differing, rng)
    observed = float(differing.sum())
    slack = 1e-9 * float(np.abs(differing).sum())  # a sum equal but for rounding counts as equal
    by_flips = _resampling_p(lambda size: flipped(size) >= observed - slack, len(differing), level, samples)
    if by_flips > level:
        return by_flips
    means = _weighted_means(differences, -1.0, 1.0, rng)
    return max(by_flips, _resampling_p(lambda size: means(size) <= 0, len(differences), level, samples))


def _resampling_p(is_against: Callable[[int], NDArray[np.bool_]], width: int, level: float, samples: int) -> float:
    """Share of resamples against the hypothesis, the data themselves included.

    It stops early only if no further draw could bring it to `level`: that never makes a test less strict.
    """
    needed = min(max(samples, math.ceil(RESOLUTION / level)), max(samples, MAX_RESAMPLES))
    done = against = 0
    for size in _portions(needed, width, first=samples):
        against += int(is_against(size).sum())
        done += size
        if (1 + against) / (1 + needed) > level and done >= samples:
            break
    return (1 + against) / (1 + done)


def _weighted_means(values: Scores, low: float, high: float, rng: np.random.Generator) -> Callable[[int], Scores]:
    """Draws of the mean under Dirichlet weights: 1 per row, and half a row at either end of the scale."""
    atoms, counts = np.unique(np.concatenate([values, [low, high]]), return_counts=True)
    if len(atoms) > MOST_ATOMS:
        atoms, counts = np.unique(np.concatenate([values.round(3), [low, high]]), return_counts=True)
    shapes = counts.astype(np.float64)
    shapes[atoms == low] -= 0.5
    shapes[atoms == high] -= 0.5

    def draw(size: int) -> Scores:
        weights = rng.standard_gamma(shapes, size=(size, len(shapes)))
        return np.asarray(weights @ atoms / weights.sum(axis=1), dtype=np.float64)

    return draw


def _flipped_sums(differences: Scores, rng: np.random.Generator) -> Callable[[int], Scores]:
    """Draws of the sum in which each difference has a random sign."""
    width = math.ceil(len(differences) / 8)

    def draw(size: int) -> Scores:
        tosses = np.unpackbits(np.frombuffer(rng.bytes(size * width), dtype=np.uint8).reshape(size, width), axis=1)
        kept = tosses[:, : len(differences)].astype(np.float64)
        return np.asarray(2 * (kept @ differences) - differences.sum(), dtype=np.float64)

    return draw


def _portions(total: int, width: int, first: int | None = None) -> list[int]:
    """`total` draws of `width` numbers in portions that fit in memory."""
    most = max(1, min(first or total, CELLS_AT_ONCE // max(width, 1)))
    return [most] * (total // most) + ([total % most] if total % most else [])


def _z(confidence: float) -> float:
    return float(ndtri(0.5 + confidence / 2))


def rounded(number: float) -> float:
    """Six significant digits: enough to read, and equal on machines that differ in the last bit."""
    return float(f"{number:.6g}")
