"""The rows of a split before rendering: stored on disk, read in portions, once per form.

Values that depend on all rows (the mix of the training rows) are one number per row; the whole text is never in memory.
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
    *("row_id", "batch", "source", "use", "family", "language", "system", "history", "instruction", "input", "output"),
    *("tools", "rejected", "desirable", "untrained", "thoughts", "tests"),
)
"""The columns that rendering reads."""
REPEATED = [name for name in COLUMNS if name not in ("row_id", "instruction", "input", "output")]
"""Those of them with values that many rows share: they are dictionary-encoded."""
_WRITTEN_AT_ONCE_BYTES = 16 * 2**20
_MAX_TABLES = 64


class RowWriter:
    """Writes rows (DATASET_SCHEMA) to a file in portions; many small portions are merged into a few large ones.

    with RowWriter(path) as writer:
        writer.add(rows)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        schema = pa.schema([(name, pa.string()) for name in COLUMNS])
        self._stream = ParquetStream(path, schema, compression="lz4", use_dictionary=REPEATED, write_statistics=False)
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self._flush()
        self._stream.__exit__(*raised)

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self._waiting.append(rows.select(COLUMNS))
        self._waiting_bytes += self._waiting[-1].nbytes
        self.rows += rows.num_rows
        if self._waiting_bytes > _WRITTEN_AT_ONCE_BYTES:
            self._flush()
        elif len(self._waiting) > _MAX_TABLES:  # a table with one row takes kilobytes
            self._waiting = [pa.concat_tables(self._waiting).combine_chunks()]

    def _flush(self) -> None:
        if self._waiting:
            self._stream.write(pa.concat_tables(self._waiting))
            self._waiting, self._waiting_bytes = [], 0


@dataclass(frozen=True)
class Rows:
    """The rows of a split."""

    path: Path
    count: int
    times: npt.NDArray[np.int32] | None = None
    """How often each is taken; None: once."""
    is_chosen: Callable[[pa.Table], pa.ChunkedArray] | None = None
    """(rows,) of a portion (COLUMNS): is the row one of them?"""
    advance: Callable[[float], None] | None = None
    """Called with the number of rows that were read."""

    def portions(self) -> Iterator[pa.Table]:
        """The rows (COLUMNS) in order, in portions."""
        first = 0
        with pq.ParquetFile(self.path) as file:
            portion_rows = _portion_rows(file.metadata)
            for batch in read_batches(file, portion_rows, use_threads=False):
                last = first + batch.num_rows
                rows = pa.Table.from_batches([batch])
                indices = np.arange(batch.num_rows)
                if self.times is not None:
                    indices = np.repeat(indices, self.times[first:last])
                for start in range(0, len(indices), portion_rows):
                    portion = rows.take(pa.array(indices[start : start + portion_rows]))
                    if self.is_chosen is not None:
                        portion = portion.filter(self.is_chosen(portion))
                    if portion.num_rows:
                        yield portion
                if self.advance is not None:
                    self.advance(batch.num_rows)
                first = last


def _portion_rows(metadata: pq.FileMetaData) -> int:
    """The rows of a portion: fewer where rows are long."""
    size: int = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return max(1, min(PORTION_ROWS, PORTION_BYTES * int(metadata.num_rows) // max(1, size)))
