"""The dataset: the fold of `data/curated`'s parts, one a batch, in the order in which the batches came.

A part says which rows of its raw batch are in, and on which side; the text is read from the raw batch, so that it is stored once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.manifest import Batch, read_manifest
from tasks.records import read_raw, read_raw_file, to_rows
from tasks.row import CHANGE_SCHEMA, CLEANED_FIELDS, CURATED_SCHEMA, DATASET_SCHEMA, ROW_SCHEMA

CHANGES = ".changes.parquet"


def read_dataset(row_ids: Collection[str] | None = None) -> pa.Table:
    """All curated rows (DATASET_SCHEMA), oldest batch first, without those that a later batch took out of training.

    Args:
        row_ids: only these rows.

    Raises:
        DataError: a raw batch is not on the disk.
    """
    tables = [rows_of(batch, part) for batch, part in read_parts(row_ids)]
    return pa.concat_tables(tables) if tables else DATASET_SCHEMA.empty_table()


def read_parts(
    row_ids: Collection[str] | None = None, folder: Path = paths.CURATED
) -> Iterator[tuple[Batch, pa.Table]]:
    """Each batch that has rows in the dataset, and which (CURATED_SCHEMA), without those that were taken out."""
    taken_out: dict[str, list[int]] = defaultdict(list)
    for path in sorted(folder.glob(f"*{CHANGES}")):
        for change in pq.read_table(path, schema=CHANGE_SCHEMA).to_pylist():
            taken_out[change["batch"]].append(change["index"])
    for batch in read_manifest():
        if not (folder / batch.part).exists():
            continue
        part = pq.read_table(folder / batch.part, schema=CURATED_SCHEMA)
        if gone := taken_out.get(batch.batch):
            part = part.filter(pc.invert(pc.is_in(part["index"], pa.array(gone, pa.int64()))))
        if row_ids is not None:
            part = part.filter(pc.is_in(part["row_id"], pa.array(sorted(row_ids), pa.string())))
        if part.num_rows:
            yield batch, part


def rows_of(batch: Batch, part: pa.Table, raw_file: Path | None = None) -> pa.Table:
    """The rows (DATASET_SCHEMA) that a part names, with the text as `curate` left it.

    Args:
        raw_file: where the raw batch lies, if not in data/raw.
    """
    raw = read_raw_file(raw_file) if raw_file else read_raw(batch, check=False)
    return rows_from(raw.take(part["index"]), batch, part)


def rows_from(raw: pa.Table, batch: Batch, part: pa.Table) -> pa.Table:
    """As `rows_of`, of records that were read already: one a line of the part, in its order."""
    rows = to_rows(raw, batch, part["index"].to_pylist()).select(ROW_SCHEMA.names)
    for name in CLEANED_FIELDS:
        if part[name].null_count < part.num_rows:
            rows = rows.set_column(rows.schema.get_field_index(name), name, pc.coalesce(part[name], rows[name]))
    for name in ("split", "group"):
        rows = rows.append_column(name, part[name])
    return rows.cast(DATASET_SCHEMA)
