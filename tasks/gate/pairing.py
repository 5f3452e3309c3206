"""Scores of two models on the same test rows, paired by row id. Pure: tables in, arrays out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import paths
from tasks.errors import DataError
from tasks.expression.expression import TEXT_COLUMNS
from tasks.gate.judged_scores import OWN_SCORE
from tasks.scoring.paired_rows import OF_A_ROW

FLAGS = ("degenerate", "personal_data")
"""Columns with what is wrong with an answer, whatever its score; null for most. The reference's begin with REFERENCE."""
REFERENCE = "reference_"
COLUMNS = ("target", "kind", "language", "source", "use", *FLAGS)
"""Further columns of the predictions."""
PROMPT = "prompt"
FOR_SLICES = (PROMPT, *TEXT_COLUMNS)
"""Columns that only some slices need."""
LONG = ("target", *FOR_SLICES)
SHOWN = 3
"""Row ids that an error lists."""


@dataclass(frozen=True)
class PairedScores:
    """Arrays with one entry per test row, in the order of row ids."""

    family: NDArray[np.str_]
    reference: NDArray[np.float64]
    candidate: NDArray[np.float64]
    batch: NDArray[np.str_]
    """The raw batch of each row."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns of the predictions (COLUMNS, FLAGS, FOR_SLICES), as texts."""
    measured: NDArray[np.float64] | None = None
    """The candidate's own scores, if a judge's verdicts are the scores of some families."""

    @property
    def own(self) -> NDArray[np.float64]:
        """The candidate's own scores: for a bound on the candidate alone. A judge's verdict only compares."""
        return self.candidate if self.measured is None else self.measured

    def of(self, families: set[str]) -> PairedScores:
        """The rows of these families."""
        return self.where(np.isin(self.family, sorted(families)))

    def of_batches(self, batches: tuple[str, ...]) -> PairedScores:
        """The rows of these batches."""
        return self.where(np.isin(self.batch, list(batches)))

    def where(self, chosen: NDArray[np.bool_]) -> PairedScores:
        columns = {name: values[chosen] for name, values in self.columns.items()}
        measured = None if self.measured is None else self.measured[chosen]
        return PairedScores(
            self.family[chosen], self.reference[chosen], self.candidate[chosen], self.batch[chosen], columns, measured
        )

    def column(self, name: str) -> NDArray[Any]:
        """A column of texts; "" in every row without it."""
        if name in ("family", "batch"):
            return self.family if name == "family" else self.batch
        return self.columns[name] if name in self.columns else np.full(len(self), "")

    def of_a_row(self) -> dict[str, NDArray[Any]]:
        """The columns that no model influences."""
        return {name: self.column(name) for name in OF_A_ROW}

    def __len__(self) -> int:
        return len(self.family)


def pair_scores(reference: pa.Table, candidate: pa.Table) -> PairedScores:
    """Pairs two tables of predictions (row_id, batch, family, target, score) by row id.

    Raises:
        DataError: they have different rows, a row occurs twice, or a score is not a number from 0 to 1.
    """
    ours, theirs = _by_row(candidate, "candidate"), _by_row(reference, "reference")
    for role, unpaired in (
        ("candidate", ours.keys() - theirs.keys()),
        ("reference", theirs.keys() - ours.keys()),
    ):
        if unpaired:
            raise _problem(f"{len(unpaired)} test rows have predictions of the {role} only", unpaired)
    ids = sorted(ours)
    if changed := {i for i in ids if ours[i][:2] != theirs[i][:2]}:
        raise _problem(
            f"{len(changed)} test rows have another family or target for one model than for the other", changed
        )
    return PairedScores(
        np.array([ours[i][0] for i in ids], dtype=np.str_),
        np.array([theirs[i][2] for i in ids], dtype=np.float64),
        np.array([ours[i][2] for i in ids], dtype=np.float64),
        np.array([ours[i][3] for i in ids], dtype=np.str_),
        {
            "row_id": np.array(ids, dtype=np.str_),
            **{name: _column(candidate, name, ids) for name in COLUMNS},
            **{name: _column(candidate, name, ids) for name in FOR_SLICES if name in candidate.column_names},
            **{REFERENCE + name: _column(reference, name, ids) for name in FLAGS},
        },
        _measured(candidate, ids),
    )


def _measured(table: pa.Table, ids: list[str]) -> NDArray[np.float64] | None:
    if OWN_SCORE not in table.column_names:
        return None
    values = dict(zip(table["row_id"].to_pylist(), table[OWN_SCORE].to_pylist(), strict=True))
    return np.array([values[row_id] for row_id in ids], dtype=np.float64)


def _column(table: pa.Table, name: str, ids: list[str]) -> NDArray[Any]:
    """A column in the order of the ids; "" for null and without the column."""
    if name not in table.column_names:
        return np.full(len(ids), "")
    values = dict(zip(table["row_id"].to_pylist(), table[name].to_pylist(), strict=True))
    # an array of numpy's own texts has the width of the longest in every row
    return np.array([values[row_id] or "" for row_id in ids], dtype=object if name in LONG else np.str_)


def _by_row(table: pa.Table, role: str) -> dict[str, tuple[str, str, float, str]]:
    """Row id → (family, target, score, batch)."""
    ids = table["row_id"].to_pylist()
    values = zip(*(table[name].to_pylist() for name in ("family", "target", "score", "batch")), strict=True)
    rows = dict(zip(ids, values, strict=True))
    if len(rows) < len(ids):
        repeated = {i for i, count in Counter(ids).items() if count > 1}
        raise _problem(f"{len(repeated)} test rows occur more than once in the predictions of the {role}", repeated)
    if wrong := {i for i, (_, _, score, _) in rows.items() if score is None or not 0 <= score <= 1}:
        raise _problem(f"{len(wrong)} scores of the {role} are not numbers from 0 to 1", wrong)
    return rows


def _problem(what: str, ids: set[str]) -> DataError:
    shown = ", ".join(sorted(ids)[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
    fix = "Make the predictions again: dvc repro --force evaluate"
    return DataError(f"{what} ({shown})", where=str(paths.PREDICTIONS), fix=fix)
