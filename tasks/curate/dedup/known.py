"""The rows that a new one is compared with: those of earlier batches, then those of the batch at hand. Pure.

Rows are numbered in the order in which they came. What a row is found by (its content, its bands, its passages) is indexed once
its batch is decided; what is dropped then is never looked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.curate.dedup.index import MOST_ROWS, Entries, Index, entries_of
from tasks.curate.dedup.minhash import BANDS
from tasks.curate.dedup.sketch_file import Indices, Sketch

SIDES = ("train", "valid", "test", "golden", "benchmark", "")
"""Where a row stands; the last: nowhere, it was dropped. A side is stored as its place here."""
TRAIN, VALID, TEST, GOLDEN, BENCHMARK, NOWHERE = range(6)
HELD_OUT = (TEST, GOLDEN, BENCHMARK)
"""Sides that nothing in training may overlap."""
PROTECTED = (GOLDEN, BENCHMARK)
"""Sides that no collected row joins."""

ROW = np.dtype(
    [
        ("batch", np.int32),  # place of its batch in the order of batches
        ("index", np.int64),  # its place in the batch
        ("key", np.uint64),  # equal for duplicates ...
        ("key2", np.uint64),  # ... together with this
        ("prompt", np.uint64),  # equal for rows of one source with the same prompt; 0 for none
        ("side", np.int8),
        ("is_ghost", np.bool_),
    ]
)


class Known:
    """All rows so far."""

    def __init__(self) -> None:
        self._space = np.empty(0, ROW)
        self._size = 0
        self._ids: list[pa.ChunkedArray] = []
        self._starts: list[int] = []
        self._sources: list[int] = []
        self._numbers: dict[str, int] = {}
        self._indexed = 0
        self.by_content = Index(self.is_held)
        self.by_band = Index(self.is_somewhere)
        self.by_passage = Index(self.is_somewhere)
        self.by_prompt = Index(self.is_held)
        self.taken_out = 0
        """Rows that were indexed, and left since."""

    def __len__(self) -> int:
        return self._size

    @property
    def rows(self) -> Any:
        """(rows,) of ROW."""
        return self._space[: self._size]

    @property
    def side(self) -> npt.NDArray[np.int8]:
        """(rows,); may be written to."""
        found: npt.NDArray[np.int8] = self.rows["side"]
        return found

    @property
    def is_ghost(self) -> npt.NDArray[np.bool_]:
        """(rows,): not in the dataset any more (forgotten, or of an excluded batch), but others keep the side that they took from
        it."""
        found: npt.NDArray[np.bool_] = self.rows["is_ghost"]
        return found

    def append(self, sketch: Sketch, source: str, side: Any, is_ghost: Any) -> int:
        """Adds the rows of the next batch, which no index knows yet; the number of the first."""
        first = self._size
        self._reserve(len(sketch))
        self._size += len(sketch)
        new = self.rows[first:]
        new["batch"] = len(self._starts)
        for name in ("index", "key", "key2", "prompt"):
            new[name] = sketch.lines[name].to_numpy()
        new["side"], new["is_ghost"] = side, is_ghost
        self._ids.append(sketch.lines["row_id"])
        self._starts.append(first)
        self._sources.append(self._numbers.setdefault(source, len(self._numbers)))
        return first

    def sources(self, rows: Indices) -> Indices:
        """(rows,) the number of each row's source."""
        found: Indices = np.asarray(self._sources, np.int64)[self.rows["batch"][rows]]
        return found

    def _reserve(self, count: int) -> None:
        """Room for more rows; twice as much whenever there is none, so that a row is moved a few times, not once a batch."""
        needed = self._size + count
        assert needed < MOST_ROWS, "an entry of an index has room for so many rows"
        if needed > len(self._space):
            space = np.empty(max(needed, 2 * len(self._space)), ROW)
            space[: self._size] = self.rows
            self._space = space

    def index_rows(self, sketches: Sequence[Sketch]) -> None:
        """Lets the rows that were appended last be found, as far as they still count.

        Args:
            sketches: of the batches that they came in.
        """
        first, self._indexed = self._indexed, self._size
        keys = self.rows["key"][first:]
        self.by_content.add(high_bits(keys), lambda at: entries_of(high_bits(keys[at]), first + at))
        prompts = self.rows["prompt"][first:]
        have_one = np.flatnonzero(prompts)
        self.by_prompt.add(
            high_bits(prompts[have_one]),
            lambda at: entries_of(high_bits(prompts[have_one[at]]), first + have_one[at]),
        )
        bands = _joined([sketch.bands for sketch in sketches])
        self.by_band.add(bands.reshape(-1), lambda at: band_entries(bands, at // BANDS, at % BANDS, first))
        prints = _joined([sketch.prints for sketch in sketches])
        ends = np.cumsum(_joined([sketch.lines["prints"].to_numpy() for sketch in sketches]), dtype=np.int64)
        self.by_passage.add(prints, lambda at: entries_of(prints[at], first + np.searchsorted(ends, at, side="right")))

    def is_somewhere(self, rows: Indices) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self.side[rows] != NOWHERE
        return found

    def is_held(self, rows: Indices) -> npt.NDArray[np.bool_]:
        """Are they on a side, and still in the dataset?"""
        found: npt.NDArray[np.bool_] = self.is_somewhere(rows) & ~self.is_ghost[rows]
        return found

    def take_out(self, row: int) -> None:
        self.side[row] = NOWHERE
        self.taken_out += row < self._indexed

    def row_id(self, row: int) -> str:
        batch = int(self.rows["batch"][row])
        return str(self._ids[batch][row - self._starts[batch]].as_py())

    def first_of(self, batch: int) -> int:
        """The number of the batch's first row."""
        return self._starts[batch]

    def row_at(self, batch: int, index: int) -> int:
        """The number of the row at a place in a raw batch."""
        first = self._starts[batch]
        last = self._starts[batch + 1] if batch + 1 < len(self._starts) else self._size
        return first + int(np.searchsorted(self.rows["index"][first:last], index))


def high_bits(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """The hash by which a row's content is looked up; that two rows are equal, the whole keys say."""
    return (keys >> np.uint64(32)).astype(np.uint32)


def band_entries(bands: npt.NDArray[np.uint32], rows: Indices, band: Any, first: int) -> Entries:
    """Entries of bands' hashes; the hash of one band is none of another.

    Args:
        bands: (rows, BANDS).
        rows, band: which of these.
        first: the number of the first row.
    """
    hashes = np.asarray(band).astype(np.uint64) << np.uint64(32) | bands[rows, band].astype(np.uint64)
    return entries_of(hashes, first + rows)


def _joined(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
