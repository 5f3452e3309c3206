"""Locates rows by id: their raw batches, and their indices in them. Reads only the small files that name rows by id."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.records.parse import read_raw, to_rows
from tasks.state.manifest import read_manifest

JUDGED = (paths.VALIDATED, paths.QUARANTINE / "validate")
"""Every record of a judged batch is in one of these."""
PARTS = (*JUDGED, paths.QUARANTINE / "curate", paths.CURATED)

Locations = dict[str, dict[str, set[int]]]
"""Row id → batch → indices in it."""


def locate_rows(row_ids: Collection[str]) -> Locations:
    """All copies of the rows."""
    row_id_array = pa.array(sorted(row_ids), pa.string())
    return _locate(lambda ids: pc.is_in(ids, row_id_array))


def locate_rows_by_prefix(prefix: str) -> Locations:
    """All copies of the rows whose id starts with `prefix`."""
    return _locate(lambda ids: pc.starts_with(ids, prefix))


def _locate(matches: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Locations:
    locations: Locations = {}

    def add(table: pa.Table, batch: str) -> None:
        for row in table.filter(matches(table["row_id"])).to_pylist():
            locations.setdefault(row["row_id"], {}).setdefault(batch, set()).add(row["index"])

    for batch in read_manifest():
        judged_records = 0
        for folder in PARTS:
            if (folder / batch.part).exists():
                table = _read_ids(folder / batch.part, batch.batch)
                judged_records += table.num_rows if folder in JUDGED else 0
                add(table, batch.batch)
        if judged_records < batch.rows:  # an excluded batch, one not validated yet, or one with missing parts
            add(to_rows(read_raw(batch, check=False), batch).select(["row_id", "index"]), batch.batch)
    return locations


def _read_ids(part: Path, batch: str) -> pa.Table:
    """Row ids and indices of the batch's own rows: a part of the quarantine may also hold rows that it removed from other
    batches."""
    with pq.ParquetFile(part) as file:
        columns = [name for name in ("row_id", "index", "batch") if name in file.schema_arrow.names]
        table = file.read(columns=columns)
    return table.filter(pc.equal(table["batch"], batch)) if "batch" in columns else table
