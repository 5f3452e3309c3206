"""Where rows stand: in which raw batches, and at which places in them. Read from the small files that name rows by id."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset import CHANGES
from tasks.manifest import read_manifest
from tasks.records import read_raw, to_rows

PARTS = (paths.VALIDATED, paths.QUARANTINE / "validate", paths.QUARANTINE / "curate", paths.CURATED)

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

    for path in (file for folder in PARTS for file in sorted(folder.glob("*.parquet"))):
        if not path.name.endswith(CHANGES):
            look(pq.read_table(path, columns=["row_id", "index"]), _batch_of(path))
    for batch in read_manifest():
        if not any((folder / batch.part).exists() for folder in PARTS):  # an excluded one, or not validated yet
            look(to_rows(read_raw(batch, check=False), batch).select(["row_id", "index"]), batch.batch)
    return found


def _batch_of(path: Path) -> str:
    return path.stem.split("-")[-1]
