"""Agreement of two raters beyond chance: Cohen's kappa (1960) with an interval. Pure.

The interval is the Bayesian bootstrap of the table of their answers, as those of statistics.py: here one row more, spread evenly
over all cells, so that a few rows on which both agree give no certainty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.scoring.resampling import Scores
from tasks.scoring.statistics import Interval


def agreement_table(first: Sequence[str], second: Sequence[str], labels: Sequence[str]) -> Scores:
    """The number of rows by the label of the first rater (rows) and of the second (columns)."""
    position = {label: number for number, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)))
    for one, other in zip(first, second, strict=True):
        table[position[one], position[other]] += 1
    return table


def cohen_kappa(table: Scores) -> float:
    """Kappa of a table. 0 if chance alone explains the agreement: without rows, or if both raters gave one label throughout."""
    return float(_kappas(table[np.newaxis])[0])


def kappa_interval(table: Scores, *, confidence: float, samples: int, seed: int | list[int]) -> Interval:
    """The percentile interval of kappa under Dirichlet weights; [-1, 1] without rows."""
    if not table.sum():
        return Interval(-1.0, 1.0)
    rng = np.random.default_rng(seed)
    shapes = table + 1 / table.size
    kappas = _kappas(rng.standard_gamma(shapes, size=(samples, *table.shape)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(kappas, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _kappas(tables: Scores) -> NDArray[np.float64]:
    """Kappa of each table (axes: table, first rater, second rater)."""
    sums = tables.sum(axis=(1, 2))
    shares = tables / np.where(sums, sums, 1.0)[:, np.newaxis, np.newaxis]
    observed = np.trace(shares, axis1=1, axis2=2)
    by_chance = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
    room = 1 - by_chance
    is_defined = (room > 1e-12) & (sums > 0)
    return np.where(is_defined, (observed - by_chance) / np.where(is_defined, room, 1.0), 0.0)
