"""The training rows by which two versions are compared: of a large family a sample, so that a million rows cost what a few cost.

Taken are the rows whose ids rank first. An id is a hash of the row's content, so the choice depends on nothing else: it is the
same on every machine, and a row that two versions share is in the samples of both.
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
"""Of a version, shared out equally among its families."""
MOST_BYTES = 12_000_000
"""The records of a version, shared out in the same way."""
LEAST_ROWS = 1_000
"""Of a family, however many there are and however long its texts are."""
RECORDS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Sample:
    parts: Mapping[str, Part]
    rows: dict[str, int]
    """Family → its training rows."""
    taken: dict[str, int]
    """Family → how many of them are in the sample."""
    places: dict[str, list[int]]
    """Batch → the places, ascending, of the rows that are in the sample."""

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows with their text, in order of arrival."""
        for name, places in self.places.items():
            part = self.parts[name]
            chosen = part.rows.filter(pc.is_in(part.rows["index"], pa.array(places, pa.int64()))).sort_by("index")
            yield from rows_from(_records_at(part.raw, places), part.batch, chosen).to_pylist()


def draw_sample(parts: Mapping[str, Part]) -> Sample:
    """Every training row of a small version; of a large one, each family's share of MOST_ROWS and MOST_BYTES."""
    trained = _training_rows(parts)
    families = pc.unique(trained["family"]).to_pylist()
    rows, taken, places = {}, {}, dict[str, list[int]]()
    for family in sorted(families):
        members = trained.filter(pc.equal(trained["family"], family))
        rows[family] = members.num_rows
        most = _most(len(families), pc.mean(members["bytes"]).as_py())
        order = [("row_id", "ascending"), ("ordinal", "ascending"), ("index", "ascending")]
        chosen = members.take(pc.select_k_unstable(members, k=min(most, members.num_rows), sort_keys=order))
        taken[family] = chosen.num_rows
        for batch, index in zip(chosen["batch"].to_pylist(), chosen["index"].to_pylist(), strict=True):
            places.setdefault(batch, []).append(index)
    return Sample(parts, rows, taken, {batch: sorted(places[batch]) for batch in parts if batch in places})


def _most(families: int, bytes_a_record: float) -> int:
    fitting = min(MOST_ROWS, MOST_BYTES / max(bytes_a_record, 1.0)) / families
    return max(LEAST_ROWS, int(fitting))


def _training_rows(parts: Mapping[str, Part]) -> pa.Table:
    """A line a training row: what it is ranked by, and how long a record of its batch is on average."""
    tables = [_empty()]
    for name, part in parts.items():
        rows = part.rows.filter(pc.equal(part.rows["split"], "train"))
        with pq.ParquetFile(part.raw) as file:
            families = file.read(columns=["family"])["family"].take(rows["index"])
            bytes_a_record = _bytes_a_record(file.metadata)
        same = {"batch": pa.scalar(name), "ordinal": pa.scalar(part.batch.ordinal), "bytes": pa.scalar(bytes_a_record)}
        columns = {"row_id": rows["row_id"], "index": rows["index"], "family": families}
        columns |= {column: pa.repeat(value, rows.num_rows) for column, value in same.items()}
        tables.append(pa.table(columns).select(tables[0].schema.names))
    return pa.concat_tables(tables)


def _empty() -> pa.Table:
    text, number = pa.string(), pa.int64()
    schema = pa.schema([("row_id", text), ("index", number), ("family", text), ("batch", text), ("ordinal", number)])
    return schema.append(pa.field("bytes", pa.float64())).empty_table()


def _bytes_a_record(metadata: Any) -> float:
    """From the file's footer: no text is read for it."""
    size = 0
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        size += sum(columns.column(each).total_uncompressed_size for each in range(columns.num_columns))
    return float(size / max(metadata.num_rows, 1))


def _records_at(path: Path, places: Sequence[int]) -> pa.Table:
    """Records of a raw batch (RAW_SCHEMA) by their places, ascending; no more of the file is held than a few thousand."""
    wanted, start, found = np.asarray(places), 0, []
    with pq.ParquetFile(path) as file:
        for records in read_batches(file, RECORDS_AT_ONCE):
            first, last = np.searchsorted(wanted, [start, start + records.num_rows])
            if last > first:
                found.append(pa.Table.from_batches([records]).take(pa.array(wanted[first:last] - start)))
            start += records.num_rows
    return fill_up(pa.concat_tables(found))
