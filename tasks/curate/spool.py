"""A batch's cleaned rows while its part is made: on the disk, compressed, since a large batch's text would fill the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.curate.sketch_file import Indices
from tasks.curate.sketching import CLEAN_SCHEMA


class Spool:
    """Rows (CLEAN_SCHEMA) in the order in which they are added; gone when it is closed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.NamedTemporaryFile(dir=folder, prefix=".rows-")  # noqa: SIM115 (closed by __exit__)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_file(self._file.name, CLEAN_SCHEMA, options=options)
        self._ends = [0]

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Adds some rows, which are read back together."""
        for batch in rows.combine_chunks().to_batches():
            self._writer.write_batch(batch)
            self._ends.append(self._ends[-1] + batch.num_rows)

    def finish(self) -> None:
        """All rows are there: they may be read."""
        self._writer.close()

    def __iter__(self) -> Iterator[pa.Table]:
        with pa.memory_map(self._file.name) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(number)])

    def take(self, places: Indices) -> Iterator[dict[str, Any]]:
        """The rows at these places (ascending)."""
        with pa.memory_map(self._file.name) as source:
            reader = pa.ipc.open_file(source)
            numbers = np.searchsorted(self._ends, places, side="right") - 1
            for number in np.unique(numbers).tolist():
                some = places[numbers == number] - self._ends[number]
                yield from reader.get_batch(number).take(pa.array(some)).to_pylist()
