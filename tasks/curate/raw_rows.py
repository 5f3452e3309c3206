"""Rows read again from their raw batches and cleaned; a batch's bytes are first compared with the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.curate.dedup.index import Indices
from tasks.curate.dedup.known import RowTable
from tasks.curate.dedup.shared_text import RowTexts
from tasks.curate.filters import JudgedRow
from tasks.curate.settings import CurateSettings
from tasks.curate.sides.split import exchanges, input_text, last_prompt, prompt_and_answer
from tasks.curate.sketch_batch import ROWS_AT_ONCE, clean_rows, read_rows, to_clean_table
from tasks.curate.spool import Spool
from tasks.records.parse import check_raw
from tasks.records.segmentation import normalise
from tasks.state.manifest import Batch


class RawRows:
    """Reads raw batches; a batch is checked when it is first read."""

    def __init__(self, settings: CurateSettings) -> None:
        self._settings = settings
        self._checked: set[str] = set()

    def check(self, batch: Batch) -> None:
        """Compares the batch's file with the manifest: `validate` did, but possibly long ago.

        Raises:
            DataError: it is missing, or differs from the ingested one.
        """
        if batch.batch not in self._checked:
            check_raw(batch)
            self._checked.add(batch.batch)

    def cleaned(self, batch: Batch, indices: list[int]) -> list[JudgedRow]:
        """The rows at these indices of the batch (ascending)."""
        self.check(batch)
        return clean_rows(read_rows(batch, indices[0], indices[-1] + 1, indices), self._settings)

    def in_portions(self, batch: Batch, indices: list[int]) -> Iterator[pa.Table]:
        """The same as tables (CLEAN_SCHEMA)."""
        for first in range(0, len(indices), ROWS_AT_ONCE):
            yield to_clean_table(self.cleaned(batch, indices[first : first + ROWS_AT_ONCE]))


def texts_of(row: dict[str, Any]) -> RowTexts:
    """The texts by which rows are compared."""
    pairs = exchanges(row, normalise(last_prompt(row)), normalise(row["output"]))
    return RowTexts(input_text(row), row["output"], *prompt_and_answer(row), frozenset(pairs))


class Texts:
    """Reads the texts of rows: of the last batch from the spool, if there is one; of others from their raw batches."""

    def __init__(self, table: RowTable, batches: Sequence[Batch], raw_rows: RawRows, spool: Spool | None) -> None:
        self._table = table
        self._batches = batches
        self._raw_rows = raw_rows
        self._spool = spool

    def __call__(self, rows: Indices) -> list[RowTexts]:
        """The text of each row."""
        texts: dict[tuple[int, int], RowTexts] = {}
        batches = self._table.rows["batch"][rows]
        for number in np.unique(batches).tolist():
            for row in self._rows_of(number, np.unique(rows[batches == number])):
                texts[number, row["index"]] = texts_of(row)
        indices = self._table.rows["index"][rows].tolist()
        return [texts[key] for key in zip(batches.tolist(), indices, strict=True)]

    def _rows_of(self, number: int, rows: Indices) -> Iterator[dict[str, Any]]:
        if self._spool is not None and number == len(self._batches) - 1:
            yield from self._spool.take(rows - self._table.first_of(number))
            return
        indices = self._table.rows["index"][rows]
        for first in range(0, len(indices), ROWS_AT_ONCE):
            portion = indices[first : first + ROWS_AT_ONCE].tolist()
            yield from (judged.row for judged in self._raw_rows.cleaned(self._batches[number], portion))
