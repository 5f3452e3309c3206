"""The evaluated test rows that a reloaded model must answer as they were evaluated: some of each family, chosen by row id.

evaluated = read_evaluated(Path(), receipt)     # None: there are no stored predictions
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.dataset.rendered import TEST
from tasks.errors import DataError

ROWS = 20
"""The rows that are compared; more only if there are more families."""
PREDICTIONS = paths.PREDICTIONS / "candidate.parquet"
INPUTS = ("prompt_ids", "chosen_ids", "rejected_ids")
"""Columns of data/rendered/test.parquet with the tokens that a model gets; a form of rows has some of them."""
RESULTS = ("prediction", "is_cut", "score", "confidence", "bits")
"""Columns of data/predictions that are compared."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """The rows, and how they were evaluated. Its fields are JSON: another process gets it."""

    rows: list[Row]
    """`row_id`, `family`, and those of INPUTS and RESULTS that the row has."""
    precision: str
    """`bf16` or `fp32`: of the weights in the evaluation."""
    is_by_server: bool
    """A server generated the answers (`evaluate.engine`), not the embedded engine."""
    max_new_tokens: int


def read_evaluated(root: Path, receipt: dict[str, Any]) -> Evaluated | None:
    """The chosen rows of the candidate below `root`, with their tokens; None where no predictions are stored.

    Raises:
        DataError: the tokens of the rows are missing.
    """
    import pyarrow.parquet as pq

    if not (root / PREDICTIONS).is_file():
        return None
    columns = [name for name in ("row_id", "family", *RESULTS) if name in pq.read_schema(root / PREDICTIONS).names]
    chosen = choose_rows(pq.read_table(root / PREDICTIONS, columns=columns).to_pylist())
    inputs = _inputs(root, [row["row_id"] for row in chosen])
    metrics = receipt.get("metrics") or {}
    return Evaluated(
        [row | inputs[row["row_id"]] for row in chosen],
        metrics.get("precision", "fp32"),
        (metrics.get("inference") or {}).get("name") == "server",
        ((receipt.get("params") or {}).get("evaluate") or {}).get("max_new_tokens", 64),
    )


def choose_rows(predictions: Sequence[Row], count: int = ROWS) -> list[Row]:
    """`count` rows, or one per family if there are more families; the families in turn, the rows of each by a hash of their id."""
    families: dict[str, list[Row]] = {}
    for row in sorted(predictions, key=lambda row: _order(row["row_id"])):
        families.setdefault(row["family"], []).append(row)
    turns = itertools.zip_longest(*(families[name] for name in sorted(families)))
    in_turn = [row for turn in turns for row in turn if row is not None]
    return in_turn[: max(count, len(families))]


def _order(row_id: str) -> str:
    return hashlib.sha256(row_id.encode()).hexdigest()


def _inputs(root: Path, row_ids: list[str]) -> dict[str, Row]:
    """Row id → its tokens, by column."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path, fix = root / TEST, "Make it again: dvc repro render evaluate"
    if not path.is_file():
        raise DataError("not found: the tokens of the evaluated rows", where=str(path), fix=fix)
    columns = ["row_id", *(name for name in INPUTS if name in pq.read_schema(path).names)]
    table = pq.read_table(path, columns=columns)
    rows = table.filter(pc.is_in(table["row_id"], value_set=_strings(row_ids))).to_pylist()
    inputs = {row.pop("row_id"): {name: ids for name, ids in row.items() if ids is not None} for row in rows}
    if missing := [row_id for row_id in row_ids if row_id not in inputs]:
        raise DataError(f"has no row {missing[0]}, which was evaluated", where=str(path), fix=fix)
    return inputs


def _strings(values: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())
