"""Pairing: the two models must have answered the same rows, each once, with scores that are scores."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tasks.errors import DataError
from tasks.gate.pairing import pair_scores


def table(*rows: tuple[str, str, str, Any]) -> pa.Table:
    names = ("row_id", "family", "target", "score")
    types = (pa.string(), pa.string(), pa.string(), pa.float64())
    columns = {n: pa.array([row[i] for row in rows], types[i]) for i, n in enumerate(names)}
    return pa.table({**columns, "batch": pa.array(["b1"] * len(rows), pa.string())})


ONE, TWO = ("r1", "topic", "sport", 1.0), ("r2", "qa", "城市。", 0.5)


def test_rows_are_paired_by_id_whatever_their_order() -> None:
    scores = pair_scores(table(("r2", "qa", "城市。", 0.25), ("r1", "topic", "sport", 0.0)), table(ONE, TWO))
    assert scores.family.tolist() == ["topic", "qa"]
    assert scores.reference.tolist() == [0.0, 0.25]
    assert scores.candidate.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("reference", "candidate", "message"),
    [
        (table(ONE), table(ONE, TWO), "1 test rows have predictions of the candidate only (r2)"),
        (table(ONE, TWO), table(ONE), "1 test rows have predictions of the reference only (r2)"),
        (table(ONE), table(ONE, ONE), "1 test rows occur more than once in the predictions of the candidate (r1)"),
        (table(ONE), table(("r1", "topic", "tech", 1.0)), "another family or target"),
        (table(ONE), table(("r1", "qa", "sport", 1.0)), "another family or target"),
        (table(ONE), table(("r1", "topic", "sport", None)), "not numbers from 0 to 1"),
        (table(ONE), table(("r1", "topic", "sport", float("nan"))), "not numbers from 0 to 1"),
        (table(("r1", "topic", "sport", 1.5)), table(ONE), "not numbers from 0 to 1"),
    ],
)
def test_rows_that_cannot_be_paired_are_named(reference: pa.Table, candidate: pa.Table, message: str) -> None:
    with pytest.raises(DataError, match="dvc repro") as caught:
        pair_scores(reference, candidate)
    assert message in str(caught.value)


def test_no_rows_at_all_pair_to_nothing() -> None:
    assert len(pair_scores(table(), table())) == 0


def test_degenerate_answers_of_both_models_and_the_columns_of_slices_are_paired_too() -> None:
    def more(*values: str | None) -> dict[str, pa.Array]:
        return {"degenerate": pa.array(values, pa.string()), "language": pa.array(["zh", "en"])}

    reference, candidate = table(TWO, ONE), table(ONE, TWO)
    for name, values in more("loop", None).items():
        reference = reference.append_column(name, values)
    for name, values in more("empty", None).items():
        candidate = candidate.append_column(name, values)
    scores = pair_scores(reference, candidate)
    assert scores.column("degenerate").tolist() == ["empty", ""]
    assert scores.column("reference_degenerate").tolist() == ["", "loop"]
    assert scores.column("language").tolist() == ["zh", "en"]
    assert scores.of({"qa"}).column("reference_degenerate").tolist() == ["loop"]
    assert pair_scores(table(ONE), table(ONE)).column("degenerate").tolist() == [""]
