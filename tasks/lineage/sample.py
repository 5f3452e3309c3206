"""The training rows for a comparison of two versions: a sample of large families, so that the cost is bounded.

A sample has the rows with the smallest ids. An id is a hash of the row's content, so the sample is the same on every machine,
and a row that both versions have is in both samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.dataset.read import rows_from
from tasks.lineage.version_data import Part
from tasks.records.parse import fill_up
from tasks.runtime.files import read_batches

MOST_ROWS = 20_000
"""Maximum per version, divided equally among its families."""
MOST_BYTES = 12_000_000
"""Maximum size of a version's records, divided in the same way."""
LEAST_ROWS = 1_000
"""Minimum per family, whatever the number of families and the length of texts."""
RECORDS_AT_ONCE = 16_384
NAMES, NUMBERS = ("row_id", "family", "batch"), ("index", "ordinal")
SCHEMA = pa.schema([*((n, pa.string()) for n in NAMES), *((n, pa.int64()) for n in NUMBERS), ("bytes", pa.float64())])
"""A training row for the ranking; `bytes`: the mean record size of its batch."""


@dataclass(frozen=True)
class Sample:
    parts: Mapping[str, Part]
    rows: dict[str, int]
    """Family → its training rows."""
    sampled: dict[str, int]
    """Family → its rows in the sample."""
    indices: dict[str, list[int]]
    """Batch → the indices, ascending, of the sampled rows."""

    def read(self) -> Iterator[dict[str, Any]]:
        """The sampled rows with their text, in order of arrival."""
        for name, indices in self.indices.items():
            part = self.parts[name]
            chosen = part.rows.filter(pc.is_in(part.rows["index"], pa.array(indices, pa.int64()))).sort_by("index")
            yield from rows_from(_records_at(part.raw, indices), part.batch, chosen).to_pylist()


def draw_sample(parts: Mapping[str, Part]) -> Sample:
    """All training rows of a small version; of a large one, each family's share of MOST_ROWS and MOST_BYTES."""
    trained = _training_rows(parts)
    families = pc.unique(trained["family"]).to_pylist()
    rows, sampled, indices = {}, {}, dict[str, list[int]]()
    for family in sorted(families):
        members = trained.filter(pc.equal(trained["family"], family))
        rows[family] = members.num_rows
        limit = _rows_per_family(len(families), pc.mean(members["bytes"]).as_py())
        order = [("row_id", "ascending"), ("ordinal", "ascending"), ("index", "ascending")]
        chosen = members.take(pc.select_k_unstable(members, k=min(limit, members.num_rows), sort_keys=order))
        sampled[family] = chosen.num_rows
        for batch, index in zip(chosen["batch"].to_pylist(), chosen["index"].to_pylist(), strict=True):
            indices.setdefault(batch, []).append(index)
    return Sample(parts, rows, sampled, {batch: sorted(indices[batch]) for batch in parts if batch in indices})


def _rows_per_family(families: int, bytes_a_record: float) -> int:
    limit = min(MOST_ROWS, MOST_BYTES / max(bytes_a_record, 1.0)) / families
    return max(LEAST_ROWS, int(limit))


def _training_rows(parts: Mapping[str, Part]) -> pa.Table:
    """The training rows, as SCHEMA."""
    tables = [SCHEMA.empty_table()]
    for name, part in parts.items():
        rows = part.rows.filter(pc.equal(part.rows["split"], "train"))
        with pq.ParquetFile(part.raw) as file:
            families = file.read(columns=["family"])["family"].take(rows["index"])
            bytes_a_record = _bytes_a_record(file.metadata)
        same = {"batch": pa.scalar(name), "ordinal": pa.scalar(part.batch.ordinal), "bytes": pa.scalar(bytes_a_record)}
        columns = {"row_id": rows["row_id"], "index": rows["index"], "family": families}
        columns |= {column: pa.repeat(value, rows.num_rows) for column, value in same.items()}
        tables.append(pa.table(columns).select(SCHEMA.names))
    return pa.concat_tables(tables)


def _bytes_a_record(metadata: Any) -> float:
    """Mean size of a record, from the file's footer: no text is read."""
    size = 0
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        size += sum(columns.column(column).total_uncompressed_size for column in range(columns.num_columns))
    return float(size / max(metadata.num_rows, 1))


def _records_at(path: Path, indices: Sequence[int]) -> pa.Table:
    """Records of a raw batch (RAW_SCHEMA) by ascending indices; only a few thousand are in memory at a time."""
    targets, start, parts = np.asarray(indices), 0, []
    with pq.ParquetFile(path) as file:
        for records in read_batches(file, RECORDS_AT_ONCE):
            begin, end = np.searchsorted(targets, [start, start + records.num_rows])
            if end > begin:
                parts.append(pa.Table.from_batches([records]).take(pa.array(targets[begin:end] - start)))
            start += records.num_rows
    return fill_up(pa.concat_tables(parts))
