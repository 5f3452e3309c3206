"""A raw batch as chunks of records: memory is that of one chunk, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.records.parse import fill_up
from tasks.runtime.files import read_batches
from tasks.state.manifest import Batch

RECORDS = 20_000
BYTES = 16 << 20
"""Most records and bytes of a chunk; one larger record is a chunk of its own. Chunk bounds depend on the batch alone."""


def family_of(batch: Batch) -> str:
    """The family that the batch's source declares."""
    with pq.ParquetFile(batch.path) as file:
        for read in file.iter_batches(batch_size=1, columns=["family"]):
            return str(read.column(0)[0].as_py())
    return ""


def read_chunks(batch: Batch) -> Iterator[tuple[int, pa.Table]]:
    """The batch's records (RAW_SCHEMA) in chunks, each with the index in the batch of its first record."""
    first = 0
    with pq.ParquetFile(batch.path, buffer_size=1 << 20, pre_buffer=False) as file:
        bytes_ = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
        records = min(RECORDS, max(1, BYTES * file.metadata.num_rows // max(bytes_, 1)))
        for read in read_batches(file, records):
            for chunk in _split(fill_up(pa.Table.from_batches([read]))):
                yield first, chunk
                first += chunk.num_rows


def _split(table: pa.Table) -> Iterator[pa.Table]:
    """Halves the table until the parts are small enough: a few records may hold most of the bytes."""
    if table.num_rows <= 1 or table.nbytes <= 2 * BYTES:
        yield table
        return
    half = table.num_rows // 2
    for indices in (range(half), range(half, table.num_rows)):
        yield from _split(table.take(pa.array(indices)))  # a copy: a slice keeps the whole table in memory
