"""Where rows stand: in which raw batches, and at which places in them. Read from the small files that name rows by id."""

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
"""Every record of a batch that was judged stands in one of these."""
PARTS = (*JUDGED, paths.QUARANTINE / "curate", paths.CURATED)

Places = dict[str, dict[str, set[int]]]
"""Row id → batch → places in it."""


def places_of(row_ids: Collection[str]) -> Places:
    """Every copy of the rows."""
    wanted = pa.array(sorted(row_ids), pa.string())
    return _places(lambda ids: pc.is_in(ids, wanted))


def places_of_rows_that_begin(start: str) -> Places:
    """Every copy of the rows whose id begins so."""
    return _places(lambda ids: pc.starts_with(ids, start))


def _places(is_meant: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Places:
    found: Places = {}

    def look(table: pa.Table, batch: str) -> None:
        for row in table.filter(is_meant(table["row_id"])).to_pylist():
            found.setdefault(row["row_id"], {}).setdefault(batch, set()).add(row["index"])

    for batch in read_manifest():
        judged = 0
        for folder in PARTS:
            if (folder / batch.part).exists():
                table = _named(folder / batch.part, batch.batch)
                judged += table.num_rows if folder in JUDGED else 0
                look(table, batch.batch)
        if judged < batch.rows:  # an excluded one, one that is not validated yet, or whose parts were taken away
            look(to_rows(read_raw(batch, check=False), batch).select(["row_id", "index"]), batch.batch)
    return found


def _named(part: Path, batch: str) -> pa.Table:
    """Row ids and places of the batch's own rows: a part of the quarantine may hold such as it took out of others."""
    with pq.ParquetFile(part) as file:
        columns = [name for name in ("row_id", "index", "batch") if name in file.schema_arrow.names]
        table = file.read(columns=columns)
    return table.filter(pc.equal(table["batch"], batch)) if "batch" in columns else table
