"""Rows of the dataset without an example, with reasons: data/rendered/left_out.parquet.

A row occurs once: with the first rule that left it out, or with the reason for which the last form dropped it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.runtime.files import ParquetStream, read_batches

BALANCE, NOT_REPLAYED, NO_FORM = "balance", "not_replayed", "not_of_the_objective"
IDS_AT_ONCE = 65_536
SCHEMA = pa.schema([(name, pa.string()) for name in ("row_id", "split", "reason", "detail")])
Reason = tuple[str, str]
"""A code, and the rule of `render.balance`."""


class LeftOut:
    """Writes the file, one reason and split at a time.

    with LeftOut(path) as left_out:
        left_out.add("train", (BALANCE, "all: weight 0.5"), row_ids)
    """

    def __init__(self, path: Path) -> None:
        self._stream = ParquetStream(path, SCHEMA)
        self.counts: dict[str, Counter[str]] = {}
        """Split → reason → rows."""
        self._dropped: dict[str, dict[bytes, str]] = {}

    def __enter__(self) -> LeftOut:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stream.__exit__(*raised)

    def add(self, split: str, reason: Reason, row_ids: pa.Array | pa.ChunkedArray) -> None:
        """Adds rows that were left out before rendering."""
        if not len(row_ids):
            return
        same = [pa.array([value] * len(row_ids), pa.string()) for value in (split, *reason)]
        columns = [row_ids.combine_chunks() if isinstance(row_ids, pa.ChunkedArray) else row_ids, *same]
        self._stream.write(pa.table(columns, schema=SCHEMA))
        self.counts.setdefault(split, Counter())[reason[0]] += len(row_ids)

    def add_indices(
        self, split: str, path: Path, reason_codes: npt.NDArray[np.uint16], reasons: Sequence[Reason]
    ) -> None:
        """Adds rows of a file (COLUMNS) by code: 0 for a row that is kept, else the index of its reason plus 1."""
        if not reason_codes.any():
            return
        offset = 0
        with pq.ParquetFile(path) as file:
            for batch in read_batches(file, IDS_AT_ONCE, columns=["row_id"], use_threads=False):
                codes = reason_codes[offset : offset + batch.num_rows]
                for code in np.unique(codes[codes > 0]).tolist():
                    self.add(split, reasons[code - 1], batch["row_id"].take(pa.array(np.flatnonzero(codes == code))))
                offset += batch.num_rows

    def drop(self, split: str, dropped: Sequence[tuple[str, str]]) -> None:
        """Adds rows (id, reason) without an example in a form; another form may have one."""
        self._dropped.setdefault(split, {}).update((row_id.encode(), reason) for row_id, reason in dropped)

    def finish(self, forms: Sequence[str]) -> None:
        """Writes the dropped rows, except those that have an example in another form."""
        for split, reasons in self._dropped.items():
            ids = np.array(sorted(reasons), "S32")
            if len(forms) > 1 and split != "test":
                for form in forms:
                    for example_ids in _ids_of(form, split):
                        ids = ids[~np.isin(ids, example_ids)]
            for reason in sorted({reasons[row_id] for row_id in ids.tolist()}):
                row_ids = [row_id.decode() for row_id in ids.tolist() if reasons[row_id] == reason]
                self.add(split, (reason, ""), pa.array(row_ids, pa.string()))

    def report(self) -> dict[str, dict[str, int]]:
        """Split → reason → rows."""
        return {split: dict(sorted(counts.items())) for split, counts in sorted(self.counts.items())}


def _ids_of(form: str, split: str) -> Iterator[Any]:
    """The row ids of the examples of a form."""
    arrays, table = paths.RENDERED / form / split / "ids.npy", paths.RENDERED / form / f"{split}.parquet"
    if arrays.exists():
        yield np.load(arrays, mmap_mode="r")
    if table.exists():
        with pq.ParquetFile(table) as file:
            for batch in read_batches(file, IDS_AT_ONCE, columns=["row_id"], use_threads=False):
                yield np.array(batch["row_id"].to_pylist(), "S32")
