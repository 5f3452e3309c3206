"""Resampling of paired scores: random weights of rows, random signs of differences, sequential p-values. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

CELLS_AT_ONCE = 2_000_000
"""Random numbers in memory at once: 16 MB."""
RESOLUTION = 10
"""A test at level a draws at least RESOLUTION / a resamples, or its smallest possible p would be above a."""
MAX_RESAMPLES = 2_000_000
MOST_ATOMS = 2000
"""Up to this many distinct values are distinct in a bootstrap; more are rounded to thousandths of the largest."""


def resampling_p(is_against: Callable[[int], NDArray[np.bool_]], width: int, level: float, samples: int) -> float:
    """Share of resamples against the hypothesis, the data themselves included.

    It stops early only if no further draw could bring it to `level`: that never makes a test less strict.
    """
    needed = min(max(samples, math.ceil(RESOLUTION / level)), max(samples, MAX_RESAMPLES))
    done = against = 0
    for size in portions(needed, width, first=samples):
        against += int(is_against(size).sum())
        done += size
        if (1 + against) / (1 + needed) > level and done >= samples:
            break
    return (1 + against) / (1 + done)


def weighted_means(values: Scores, low: float, high: float, rng: np.random.Generator) -> Callable[[int], Scores]:
    """Draws of the mean under Dirichlet weights: 1 per row, and half a row at either end of the scale."""
    atoms, counts = np.unique(np.concatenate([values, [low, high]]), return_counts=True)
    if len(atoms) > MOST_ATOMS:
        largest = float(np.abs(values).max())
        atoms, counts = np.unique(
            np.concatenate([(values / largest).round(3) * largest, [low, high]]), return_counts=True
        )
    shapes = counts.astype(np.float64)
    shapes[atoms == low] -= 0.5
    shapes[atoms == high] -= 0.5

    def draw(size: int) -> Scores:
        weights = rng.standard_gamma(shapes, size=(size, len(shapes)))
        return np.asarray(weights @ atoms / weights.sum(axis=1), dtype=np.float64)

    return draw


def flipped_sums(differences: Scores, rng: np.random.Generator) -> Callable[[int], Scores]:
    """Draws of the sum in which each difference has a random sign."""
    width = math.ceil(len(differences) / 8)

    def draw(size: int) -> Scores:
        tosses = np.unpackbits(np.frombuffer(rng.bytes(size * width), dtype=np.uint8).reshape(size, width), axis=1)
        kept = tosses[:, : len(differences)].astype(np.float64)
        return np.asarray(2 * (kept @ differences) - differences.sum(), dtype=np.float64)

    return draw


def portions(total: int, width: int, first: int | None = None) -> list[int]:
    """`total` draws of `width` numbers in portions that fit in memory."""
    most = max(1, min(first or total, CELLS_AT_ONCE // max(width, 1)))
    return [most] * (total // most) + ([total % most] if total % most else [])
