"""Predictions of two models, paired on the test rows that both have. Pure: tables in, a table out.

The gate is stricter (tasks/gate/pairing.py): it refuses predictions that were not made on the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.errors import DataError

Outcome = Literal["won", "lost", "changed", "same"]
OUTCOMES: tuple[Outcome, ...] = ("won", "lost", "changed", "same")
"""Of the second model on a row: a higher score, a lower one, another answer of equal score, the same answer."""

OF_A_ROW = ("row_id", "batch", "source", "use", "family", "kind", "language", "prompt", "target")
"""Columns of predictions that do not depend on the model."""
FIRST = "first_"
"""Prefix of the first model's columns; the second's have no prefix."""


@dataclass(frozen=True)
class Pairing:
    rows: pa.Table
    """The second model's predictions on the common rows, in the order of row ids, with the first's as `first_<column>`."""
    only_first: int
    """Test rows of the first model only."""
    only_second: int
    not_comparable: int
    """Common rows that have another family or target for one model than for the other, or no score."""


def pair_rows(first: pa.Table, second: pa.Table) -> Pairing:
    """Pairs two tables of predictions by row id.

    Raises:
        DataError: a row occurs twice, or both have no row in common.
    """
    for table in (first, second):
        if repeated := table.num_rows - pc.count_distinct(table["row_id"]).as_py():
            fix = "Make the predictions again: dvc repro --force evaluate"
            raise DataError(f"{repeated} test rows occur more than once", where="predictions", fix=fix)
    second = second.sort_by("row_id")
    positions = pc.index_in(second["row_id"], value_set=first["row_id"].combine_chunks())
    common = positions.is_valid()
    second_rows, first_rows = second.filter(common), first.take(positions.drop_null())
    is_comparable = pc.and_(_has_score(first_rows), _has_score(second_rows))
    for name in ("family", "target"):
        is_comparable = pc.and_(is_comparable, pc.equal(first_rows[name], second_rows[name]))
    is_comparable = is_comparable.fill_null(False)
    others = [name for name in first.column_names if name not in OF_A_ROW]
    rows = second_rows
    for name in others:
        rows = rows.append_column(f"{FIRST}{name}", first_rows[name])
    return Pairing(
        rows.filter(is_comparable),
        only_first=first.num_rows - first_rows.num_rows,
        only_second=second.num_rows - second_rows.num_rows,
        not_comparable=rows.num_rows - int(pc.sum(is_comparable).as_py() or 0),
    )


def outcomes_of(rows: pa.Table) -> NDArray[np.str_]:
    """(rows,) the outcome of each paired row."""
    first, second = scores_of(rows)
    is_same = pc.equal(rows["prediction"], rows[f"{FIRST}prediction"]).to_numpy()
    unchanged = np.where(is_same.astype(np.bool_), "same", "changed")
    return np.where(second > first, "won", np.where(second < first, "lost", unchanged))


def scores_of(rows: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores of the first and of the second model."""
    return rows[f"{FIRST}score"].to_numpy().astype(np.float64), rows["score"].to_numpy().astype(np.float64)


def _has_score(rows: pa.Table) -> pa.ChunkedArray:
    """Whether a row has a score from 0 to 1: NaN and null are none."""
    score = rows["score"]
    return pc.and_(pc.greater_equal(score, 0.0), pc.less_equal(score, 1.0)).fill_null(False)
