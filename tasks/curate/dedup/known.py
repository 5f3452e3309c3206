"""The table of all rows that a new row is compared with: those of earlier batches, then those of the current batch. Pure.

Rows are numbered in the order of ingestion. Content keys, MinHash bands and passage fingerprints of a batch are indexed once it is
decided; a dropped row is never looked up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.curate.dedup.index import MOST_ROWS, Entries, Index, Indices, entries_of
from tasks.curate.dedup.minhash import BANDS
from tasks.curate.dedup.sketch_file import Signatures

SPLITS = ("train", "valid", "test", "golden", "benchmark", "")
"""The split of a row, stored as its index here; the last one: none, the row was dropped."""
TRAIN, VALID, TEST, GOLDEN, BENCHMARK, NO_SPLIT = range(6)
PROTECTED = (GOLDEN, BENCHMARK)
"""Splits that follow from a source's `use`: no other row joins them."""

ROW = np.dtype(
    [
        ("batch", np.int32),  # index of its batch in the order of batches
        ("index", np.int64),  # its index in the batch
        ("key", np.uint64),  # equal for duplicates ...
        ("key2", np.uint64),  # ... together with this
        ("prompt", np.uint64),  # equal for rows of one source with the same prompt; 0 for none
        ("split", np.int8),
        ("is_tombstone", np.bool_),
    ]
)


class RowTable:
    """All rows so far, with their indexes."""

    def __init__(self) -> None:
        self._space = np.empty(0, ROW)
        self._size = 0
        self._ids: list[pa.ChunkedArray] = []
        self._starts: list[int] = []
        self._sources: list[int] = []
        self._numbers: dict[str, int] = {}
        self.first_new = 0
        """The number of the first row that is not indexed yet: the new ones are those of the batch that is decided."""
        self.by_content = Index(self.is_active)
        self.by_band = Index(self.has_split)
        self.by_passage = Index(self.has_split)
        self.by_prompt = Index(self.is_active)
        self.removed = 0
        """Indexed rows that were removed since."""

    def __len__(self) -> int:
        return self._size

    @property
    def rows(self) -> Any:
        """(rows,) of ROW."""
        return self._space[: self._size]

    @property
    def split(self) -> npt.NDArray[np.int8]:
        """(rows,) an index into SPLITS; may be written to."""
        splits: npt.NDArray[np.int8] = self.rows["split"]
        return splits

    @property
    def is_tombstone(self) -> npt.NDArray[np.bool_]:
        """(rows,): not in the dataset any more (forgotten, or of an excluded batch), but it still pins its duplicates' split."""
        flags: npt.NDArray[np.bool_] = self.rows["is_tombstone"]
        return flags

    def append(self, signatures: Signatures, source: str, split: Any, is_tombstone: Any) -> None:
        """Adds the rows of the next batch, not yet indexed."""
        first = self._size
        self._reserve(len(signatures))
        self._size += len(signatures)
        new = self.rows[first:]
        new["batch"] = len(self._starts)
        for name in ("index", "key", "key2", "prompt"):
            new[name] = signatures.facts[name].to_numpy()
        new["split"], new["is_tombstone"] = split, is_tombstone
        self._ids.append(signatures.facts["row_id"])
        self._starts.append(first)
        self._sources.append(self._numbers.setdefault(source, len(self._numbers)))

    def sources(self, rows: Indices) -> Indices:
        """(rows,) the number of each row's source."""
        numbers: Indices = np.asarray(self._sources, np.int64)[self.rows["batch"][rows]]
        return numbers

    def _reserve(self, count: int) -> None:
        """Space for more rows; doubled when it is full, so that rows are copied a few times, not once per batch."""
        needed = self._size + count
        assert needed < MOST_ROWS, "an index entry holds a row number below MOST_ROWS"
        if needed > len(self._space):
            space = np.empty(max(needed, 2 * len(self._space)), ROW)
            space[: self._size] = self.rows
            self._space = space

    def index_rows(self, signatures: Sequence[Signatures]) -> None:
        """Indexes the rows that were appended since the last call, by the signatures of their batches."""
        first, self.first_new = self.first_new, self._size
        keys = self.rows["key"][first:]
        self.by_content.add(high_bits(keys), lambda at: entries_of(high_bits(keys[at]), first + at))
        prompts = self.rows["prompt"][first:]
        has_prompt = np.flatnonzero(prompts)
        self.by_prompt.add(
            high_bits(prompts[has_prompt]),
            lambda at: entries_of(high_bits(prompts[has_prompt[at]]), first + has_prompt[at]),
        )
        bands = _concatenated([batch.bands for batch in signatures])
        self.by_band.add(bands.reshape(-1), lambda at: band_entries(bands, at // BANDS, at % BANDS, first))
        fingerprints = _concatenated([batch.fingerprints for batch in signatures])
        ends = np.cumsum(_concatenated([batch.facts["prints"].to_numpy() for batch in signatures]), dtype=np.int64)
        self.by_passage.add(
            fingerprints, lambda at: entries_of(fingerprints[at], first + np.searchsorted(ends, at, side="right"))
        )

    def has_split(self, rows: Indices) -> npt.NDArray[np.bool_]:
        flags: npt.NDArray[np.bool_] = self.split[rows] != NO_SPLIT
        return flags

    def is_active(self, rows: Indices) -> npt.NDArray[np.bool_]:
        """Do they have a split, and are they still in the dataset?"""
        flags: npt.NDArray[np.bool_] = self.has_split(rows) & ~self.is_tombstone[rows]
        return flags

    def remove(self, row: int) -> None:
        self.split[row] = NO_SPLIT
        self.removed += row < self.first_new

    def row_id(self, row: int) -> str:
        batch = int(self.rows["batch"][row])
        return str(self._ids[batch][row - self._starts[batch]].as_py())

    def first_of(self, batch: int) -> int:
        """The number of the batch's first row."""
        return self._starts[batch]

    def row_at(self, batch: int, index: int) -> int:
        """The number of the row at an index in a raw batch."""
        first = self._starts[batch]
        last = self._starts[batch + 1] if batch + 1 < len(self._starts) else self._size
        return first + int(np.searchsorted(self.rows["index"][first:last], index))


def high_bits(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """The hash by which a key is looked up; whether two rows are equal is decided by the whole keys."""
    return (keys >> np.uint64(32)).astype(np.uint32)


def band_entries(bands: npt.NDArray[np.uint32], rows: Indices, band: Any, first: int) -> Entries:
    """Index entries of some of the `bands` (rows, BANDS), by indices of rows and bands; hashes of different bands never collide.
    `first`: the number of the first row."""
    hashes = np.asarray(band).astype(np.uint64) << np.uint64(32) | bands[rows, band].astype(np.uint64)
    return entries_of(hashes, first + rows)


def _concatenated(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
