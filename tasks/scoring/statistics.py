"""Intervals of a model's score and of the difference of two models on the same rows. Arrays in, numbers out.

Scores are in [0, 1]. Right/wrong scores get the classical small-sample methods: Wilson (1927) for one model's share, Tango (1998)
for the difference of two. All other scores get the bootstrap. Resampling alone gives an interval of width zero for twenty rows
without a difference, so every bootstrap here also has half a row at either end of the scale: for right/wrong scores this is the
Jeffreys interval, and few rows never give certainty. It is Rubin's (1981): rows get random weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from tasks.scoring.resampling import Scores, portions, weighted_means


class Interval(NamedTuple):
    low: float
    high: float


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


def wilson_interval(successes: float, rows: int, confidence: float) -> Interval:
    """Wilson's score interval of a share; [0, 1] without rows."""
    if rows == 0:
        return Interval(0.0, 1.0)
    z = _z(confidence)
    share, extra = successes / rows, z * z / rows
    centre = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / rows + extra / (4 * rows))
    return Interval(min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


def tango_interval(gained: float, lost: float, rows: float, confidence: float) -> Interval:
    """Tango's score interval of (gained - lost) / rows, for rows that only one of two models has right.

    It keeps its coverage in small samples and without any discordant row. T. Tango, Equivalence test and confidence
    interval for the difference in proportions for the paired-sample design, Statistics in Medicine 17 (1998) 891-908.
    """
    if rows == 0:
        return Interval(-1.0, 1.0)
    z, estimate = _z(confidence), (gained - lost) / rows

    def excess(delta: float, target: float) -> float:
        return tango_score(delta, gained, lost, rows) - target

    # the score falls from +inf at -1 to -inf at +1, but is 0/0 if the estimate is at an end
    low = -1.0 if lost == rows else float(brentq(excess, -1 + 1e-12, estimate, args=(z,), xtol=1e-10))
    high = 1.0 if gained == rows else float(brentq(excess, estimate, 1 - 1e-12, args=(-z,), xtol=1e-10))
    return Interval(low, high)


def tango_score(delta: float, gained: float, lost: float, rows: float) -> float:
    """The score statistic of the hypothesis that the true difference is `delta`."""
    b = -gained - lost + (2 * rows - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    lost_share = (math.sqrt(max(b * b - 8 * rows * c, 0.0)) - b) / (4 * rows)  # likeliest share under the hypothesis
    variance = rows * (2 * lost_share + delta * (1 - delta))
    observed = gained - lost - rows * delta
    return observed / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, observed) if observed else 0.0


def bootstrap_interval(
    values: Scores, low: float, high: float, *, confidence: float, samples: int, seed: int | list[int]
) -> Interval:
    """Percentile interval of the mean of values that lie in [low, high]; it always contains the mean."""
    if len(values) == 0:
        return Interval(low, high)
    draw = weighted_means(values, low, high, np.random.default_rng(seed))
    means = np.concatenate([draw(size) for size in portions(samples, len(values))])
    tail = (1 - confidence) / 2
    bounds, mean = np.quantile(means, [tail, 1 - tail]), float(values.mean())
    return Interval(min(float(bounds[0]), mean), max(float(bounds[1]), mean))


def _z(confidence: float) -> float:
    return float(ndtri(0.5 + confidence / 2))


def rounded(number: float) -> float:
    """Six significant digits: enough to read, and equal on machines that differ in the last bit."""
    return float(f"{number:.6g}")
