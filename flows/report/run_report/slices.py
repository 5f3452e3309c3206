"""Scores of the models by slice: family, language, label, length of the prompt, freshness of the row. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring import statistics
from tasks.scoring.metrics import METRICS
from tasks.scoring.slices import slices_by

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
        kinds, counts = np.unique(_texts(rows, "kind")[of_family].astype(np.str_), return_counts=True)
        metric = METRICS.get(str(kinds[counts.argmax()]))
        is_classification = bool(metric and metric.is_classification)
        slices = []
        for dimension, name, chosen in _masks(rows, of_family, is_classification, established):
            key = f"{family}/{name}" if dimension else family
            slices.append(Slice(dimension, name, int(chosen.sum()), _scores(chosen, scores, key, settings)))
        result.append(FamilySlices(family, metric.name if metric else str(kinds[0]), is_classification, slices))
    return result


def _masks(
    rows: pa.Table, of_family: Mask, is_classification: bool, established: Sequence[str]
) -> list[tuple[str, str, Mask]]:
    """(dimension, name, rows): the whole family, then each dimension that divides it."""
    members = rows.filter(pa.array(of_family))
    columns = {name: _texts(members, name) for name in ("language", "kind", "target", "prompt", "batch")}
    masks: list[tuple[str, str, Mask]] = [("", "all rows", of_family)]
    for dimension in ("language", *(["label"] if is_classification else []), "length", "freshness"):
        slices = slices_by(dimension, columns, established)
        if dimension != "label" or len(slices) <= MOST_LABELS:
            masks += [(dimension, part.value, _among(of_family, part.rows)) for part in slices]
    return masks


def _among(of_family: Mask, chosen: Mask) -> Mask:
    """A mask over the rows of the family as a mask over all rows."""
    mask = np.zeros(len(of_family), dtype=np.bool_)
    mask[np.flatnonzero(of_family)[chosen]] = True
    return mask


def _scores(
    chosen: Mask, scores: Mapping[str, NDArray[np.float64]], key: str, settings: EvaluateSettings
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Role → mean score and its interval, of the models with a score of these rows."""
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
    return measured


def _texts(rows: pa.Table, name: str) -> NDArray[Any]:
    """A column as Python texts: numpy's have the width of the longest."""
    return np.array([value or "" for value in rows[name].to_pylist()], dtype=object)
