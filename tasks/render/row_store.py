"""The rows of a split on their way to be rendered: on disk, gone through a portion at a time, as often as there are forms.

What is known of a row only when all were seen (the mix of the training rows) is a number a row; the text is never held whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.runtime.files import ParquetStream, read_batches

PORTION_ROWS, PORTION_BYTES = 512, 16 * 2**20
COLUMNS = (
    *("row_id", "batch", "family", "language", "system", "history", "instruction", "input", "output"),
    *("tools", "rejected", "desirable", "untrained", "thoughts"),
)
"""What rendering looks at."""
REPEATED = [
    "batch",
    "family",
    "language",
    "system",
    "history",
    "tools",
    "rejected",
    "desirable",
    "untrained",
    "thoughts",
]
"""Of these, what many rows have in common."""
_WRITTEN_AT_ONCE_BYTES = 16 * 2**20
_HELD_APART = 64

Choose = Callable[[pa.Table], pa.Table]


class Gathering:
    """Writes rows (DATASET_SCHEMA) to a file, some at a time; many small portions become a few large ones.

    with Gathering(path) as gathering:
        gathering.add(rows)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        schema = pa.schema([(name, pa.string()) for name in COLUMNS])
        self._stream = ParquetStream(path, schema, compression="lz4", use_dictionary=REPEATED, write_statistics=False)
        self._held: list[pa.Table] = []
        self._held_bytes = 0

    def __enter__(self) -> Gathering:
        return self

    def __exit__(self, *raised: object) -> None:
        self._flush()
        self._stream.__exit__(*raised)

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self._held.append(rows.select(COLUMNS))
        self._held_bytes += self._held[-1].nbytes
        self.rows += rows.num_rows
        if self._held_bytes > _WRITTEN_AT_ONCE_BYTES:
            self._flush()
        elif len(self._held) > _HELD_APART:  # a table of a row takes kilobytes
            self._held = [pa.concat_tables(self._held).combine_chunks()]

    def _flush(self) -> None:
        if self._held:
            self._stream.write(pa.concat_tables(self._held))
            self._held, self._held_bytes = [], 0


@dataclass(frozen=True)
class Rows:
    """The rows of a split."""

    path: Path
    count: int
    times: npt.NDArray[np.int32] | None = None
    """How often each is taken; None: once."""
    choose: Choose | None = None
    """Which of them, of a portion (COLUMNS)."""
    seen: Callable[[float], None] | None = None
    """Told how many rows were gone through."""

    def portions(self) -> Iterator[pa.Table]:
        """The rows (COLUMNS) in order, some at a time."""
        first = 0
        with pq.ParquetFile(self.path) as file:
            at_once = _rows_at_once(file.metadata)
            for read in read_batches(file, at_once, use_threads=False):
                last = first + read.num_rows
                rows = pa.Table.from_batches([read])
                places = np.arange(read.num_rows)
                if self.times is not None:
                    places = np.repeat(places, self.times[first:last])
                for start in range(0, len(places), at_once):
                    portion = rows.take(pa.array(places[start : start + at_once]))
                    if self.choose is not None:
                        portion = self.choose(portion)
                    if portion.num_rows:
                        yield portion
                if self.seen is not None:
                    self.seen(read.num_rows)
                first = last


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Rows of a portion: fewer where they are long."""
    size: int = sum(metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups))
    return max(1, min(PORTION_ROWS, PORTION_BYTES * int(metadata.num_rows) // max(1, size)))
