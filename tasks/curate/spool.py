"""A batch's cleaned rows while its part is built: compressed on disk, since the text of a large batch would fill the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.curate.dedup.index import Indices
from tasks.curate.sketch_batch import CLEAN_SCHEMA

ROWS_IN_MEMORY = 1_000
"""Up to this many rows need no file, which would be a tenth of the cost of a small batch."""


class Spool:
    """Rows (CLEAN_SCHEMA) in the order in which they are added; the file is deleted on exit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._few: list[pa.RecordBatch] = []
        self._file: Any = None
        self._writer: Any = None
        self._ends = [0]

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._file is not None:
            self._writer.close()
            self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Adds rows, which are read back as one table."""
        for batch in rows.combine_chunks().to_batches():
            self._ends.append(self._ends[-1] + batch.num_rows)
            if self._file is None:
                self._few.append(batch)
            else:
                self._writer.write_batch(batch)
        if self._file is None and self._ends[-1] > ROWS_IN_MEMORY:
            self._begin_file()

    def _begin_file(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.NamedTemporaryFile(dir=self._folder, prefix=".rows-")  # noqa: SIM115 (closed by __exit__)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_file(self._file.name, CLEAN_SCHEMA, options=options)
        for batch in self._few:
            self._writer.write_batch(batch)
        self._few.clear()

    def finish(self) -> None:
        """Ends writing; rows may be read from now on."""
        if self._file is not None:
            self._writer.close()

    def __iter__(self) -> Iterator[pa.Table]:
        for _, batch in self._batches(range(len(self._ends) - 1)):
            yield pa.Table.from_batches([batch])

    def take(self, rows: Indices) -> Iterator[dict[str, Any]]:
        """The rows with these numbers (ascending)."""
        numbers = np.searchsorted(self._ends, rows, side="right") - 1
        for number, batch in self._batches(np.unique(numbers).tolist()):
            rows_of_batch = rows[numbers == number] - self._ends[number]
            yield from batch.take(pa.array(rows_of_batch)).to_pylist()

    def _batches(self, numbers: Any) -> Iterator[tuple[int, pa.RecordBatch]]:
        if self._file is None:
            yield from ((number, self._few[number]) for number in numbers)
            return
        with pa.memory_map(self._file.name) as source:
            reader = pa.ipc.open_file(source)
            for number in numbers:
                yield number, reader.get_batch(number)
