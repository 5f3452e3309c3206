"""Slices: parts of a family by a property of its rows that no model influences. The gate tests them, the report of a run shows
them, and `strop compare --slice` selects them by their condition. Pure.

    slices_by("length", rows, established)     # thirds by the length of the prompt
    parse_condition("length(target) > 200")    # a condition of one's own
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.expression.expression import TEXT_COLUMNS, Expression, Language, parse_expression
from tasks.expression.measure import segments_of
from tasks.scoring.metrics import METRICS
from tasks.scoring.paired_rows import OF_A_ROW

Rows = Mapping[str, NDArray[Any]]
"""Columns of OF_A_ROW as arrays of texts, of one family."""
Mask = NDArray[np.bool_]

LANGUAGE = Language(dict.fromkeys((*OF_A_ROW, *TEXT_COLUMNS), "text"), "docs/reports.md")
"""What a condition of the gate may name: the columns of a row, rendered and (tasks/dataset/row_texts.py) as in the contract. `strop
compare` has these columns and those of the answers: a slice by its outcome would decide its own test."""
LONGEST_VALUE = 40
"""Characters of a value in a name."""
MOST_BATCHES = 20
"""Batches that a condition lists."""


@dataclass(frozen=True)
class Slice:
    value: str
    where: str | None
    """The condition on its rows, for `strop compare --slice`; None where it would be long."""
    rows: Mask


def parse_condition(where: str) -> Expression:
    """Raises ValueError if it is not a condition on a row."""
    return parse_expression(where, LANGUAGE)


def slices_by(column: str, rows: Rows, established: Sequence[str]) -> list[Slice]:
    """The slices of a family by a column of SLICES; none if all rows have the same value.

    Args:
        established: the batches that the champion was trained on; empty without a champion.
    """
    slices = [each for each in SLICES[column](rows, established) if each.rows.any()]
    return slices if len(slices) > 1 else []


def shown_value(value: str) -> str:
    """The value for a name: a long one is cut, and gets a digest, so that different values have different names."""
    text = " ".join(value.split())
    if text == value and len(value) <= LONGEST_VALUE:
        return value
    return f"{text[:LONGEST_VALUE]}… {hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _by_value(column: str) -> Callable[[Rows, Sequence[str]], list[Slice]]:
    return lambda rows, _: _values_of(column, rows[column])


def _by_label(rows: Rows, _: Sequence[str]) -> list[Slice]:
    """By target, in families of labels: other targets hardly recur."""
    kinds = {kind for kind in rows["kind"].tolist() if kind in METRICS and METRICS[kind].is_classification}
    is_label = np.isin(rows["kind"].astype(np.str_), sorted(kinds))
    return _values_of("target", np.where(is_label, rows["target"], ""))


def _values_of(column: str, values: NDArray[Any]) -> list[Slice]:
    """A slice for each text; rows with "" are in none."""
    slices = []
    for value in sorted(set(values.tolist()) - {""}):
        where = f"{column} == {value!r}" if len(value) <= LONGEST_VALUE else None
        slices.append(Slice(value, where, values == value))
    return slices


def _by_freshness(rows: Rows, established: Sequence[str]) -> list[Slice]:
    """Whether a row existed when the champion was trained."""
    if not established:
        return []
    old, names = np.isin(rows["batch"].astype(np.str_), list(established)), sorted(established)
    where = f"batch in {names!r}" if len(names) <= MOST_BATCHES else None
    return [Slice("established", where, old), Slice("new", where and where.replace(" in ", " not in ", 1), ~old)]


def _by_length(rows: Rows, _: Sequence[str]) -> list[Slice]:
    """Thirds by the length of the prompt, in words (Chinese: characters)."""
    lengths = segments_of(pa.array(rows["prompt"].tolist(), pa.string()))
    if not len(lengths):
        return []
    low, high = (int(np.quantile(lengths, share, method="lower")) for share in (1 / 3, 2 / 3))
    return [
        Slice(f"up to {low} words", f"segments(prompt) <= {low}", lengths <= low),
        Slice(
            f"{low + 1} to {high} words",
            f"segments(prompt) > {low} and segments(prompt) <= {high}",
            (lengths > low) & (lengths <= high),
        ),
        Slice(f"over {high} words", f"segments(prompt) > {high}", lengths > high),
    ]


SLICES: dict[str, Callable[[Rows, Sequence[str]], list[Slice]]] = {
    "language": _by_value("language"),
    "kind": _by_value("kind"),
    "source": _by_value("source"),
    "label": _by_label,
    "freshness": _by_freshness,
    "length": _by_length,
}
"""Name in `gate.slices` → the slices of a family."""
