"""Scores of the models by slice: family, language, label, length of the prompt, freshness of the row. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.evaluate.settings import EvaluateSettings
from tasks.expression.measure import segments_of
from tasks.scoring import statistics
from tasks.scoring.metrics import METRICS

MOST_LABELS = 25
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    dimension: str
    """Empty for the whole family."""
    name: str
    rows: int
    scores: dict[str, tuple[float, tuple[float, float]]]
    """Role → mean score and its interval."""


@dataclass(frozen=True)
class FamilySlices:
    family: str
    measure: str
    is_classification: bool
    slices: list[Slice]


def slice_families(
    rows: pa.Table, scores: Mapping[str, NDArray[np.float64]], established: Sequence[str], settings: EvaluateSettings
) -> list[FamilySlices]:
    """The slices of each family.

    Args:
        rows: the candidate's predictions.
        scores: role → the scores of its model on these rows; NaN where it has none.
        established: the batches that the champion was trained on; empty without a champion.
    """
    families = _texts(rows, "family")
    result = []
    for family in sorted(set(families.tolist())):
        of_family = families == family
        kinds, counts = np.unique(_texts(rows, "kind")[of_family], return_counts=True)
        metric = METRICS.get(str(kinds[counts.argmax()]))
        is_classification = bool(metric and metric.is_classification)
        result.append(
            FamilySlices(
                family,
                metric.name if metric else str(kinds[0]),
                is_classification,
                [
                    _slice(
                        dimension,
                        name,
                        of_family & chosen,
                        scores,
                        f"{family}/{name}" if dimension else family,
                        settings,
                    )
                    for dimension, name, chosen in _masks(rows, of_family, is_classification, established)
                ],
            )
        )
    return result


def _masks(
    rows: pa.Table, of_family: Mask, is_classification: bool, established: Sequence[str]
) -> list[tuple[str, str, Mask]]:
    """(dimension, name, rows): the whole family, then each dimension that divides it."""
    masks: list[tuple[str, str, Mask]] = [("", "all rows", of_family)]
    masks += _by_value("language", _texts(rows, "language"), of_family)
    if is_classification:
        labels = _by_value("label", _texts(rows, "target"), of_family)
        masks += labels if len(labels) <= MOST_LABELS else []
    masks += _by_length(rows, of_family)
    if established:
        fresh = ~np.isin(_texts(rows, "batch"), list(established))
        names = np.where(fresh, "since the champion", "before the champion")
        masks += _by_value("freshness", names.astype(np.str_), of_family)
    return masks


def _by_value(dimension: str, values: NDArray[np.str_], of_family: Mask) -> list[tuple[str, str, Mask]]:
    distinct = sorted(set(values[of_family].tolist()))
    return [(dimension, value, values == value) for value in distinct] if len(distinct) > 1 else []


def _by_length(rows: pa.Table, of_family: Mask) -> list[tuple[str, str, Mask]]:
    """Thirds by the length of the prompt, in words (Chinese: characters)."""
    lengths = segments_of(rows["prompt"].combine_chunks().fill_null(""))
    low, high = (int(np.quantile(lengths[of_family], share, method="lower")) for share in (1 / 3, 2 / 3))
    thirds: list[tuple[str, Callable[[NDArray[np.int64]], Mask]]] = [
        (f"up to {low} words", lambda n: n <= low),
        (f"{low + 1} to {high} words", lambda n: (n > low) & (n <= high)),
        (f"over {high} words", lambda n: n > high),
    ]
    masks = [("length", name, test(lengths)) for name, test in thirds]
    masks = [mask for mask in masks if (mask[2] & of_family).any()]
    return masks if len(masks) > 1 else []


def _slice(
    dimension: str,
    name: str,
    chosen: Mask,
    scores: Mapping[str, NDArray[np.float64]],
    key: str,
    settings: EvaluateSettings,
) -> Slice:
    measured = {}
    for role, values in scores.items():
        of_role = values[chosen]
        of_role = of_role[~np.isnan(of_role)]
        if len(of_role):
            interval = statistics.score_interval(
                of_role,
                confidence=settings.confidence,
                samples=settings.bootstrap_samples,
                seed=[settings.seed, zlib.crc32(key.encode("utf-8"))],
            )
            measured[role] = (float(of_role.mean()), (interval.low, interval.high))
    return Slice(dimension, name, int(chosen.sum()), measured)


def _texts(rows: pa.Table, name: str) -> NDArray[np.str_]:
    return np.array([value or "" for value in rows[name].to_pylist()], dtype=np.str_)
