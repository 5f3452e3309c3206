"""The dataset: the parts of `data/curated`, one per batch, in the order of ingestion.

A part lists the rows of its raw batch with their splits; the text is read from the raw batch, so that it is stored once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.errors import DataError
from tasks.records.parse import check_raw, fill_up, read_raw, read_raw_file, to_rows
from tasks.records.row import CHANGE_SCHEMA, CLEANED_FIELDS, CURATED_SCHEMA, DATASET_SCHEMA, ROW_SCHEMA
from tasks.runtime.files import read_batches
from tasks.state.manifest import Batch, read_manifest

CHANGES = ".changes.parquet"
ROWS_AT_ONCE = 4096
"""Rows of one portion."""
Indices = npt.NDArray[np.int64]
RawPart = tuple[pa.Table, Batch, pa.Table]
"""Records (RAW_SCHEMA), their batch, and the matching rows of its part (CURATED_SCHEMA)."""
MapFunction = Callable[[Callable[[RawPart], pa.Table], Iterator[RawPart]], Iterator[pa.Table]]


def read_dataset(row_ids: Collection[str] | None = None) -> pa.Table:
    """All curated rows (DATASET_SCHEMA), or those with these ids, oldest batch first, without those that a later batch removed.

    Raises:
        DataError: a raw batch is missing.
    """
    tables = [rows_of(batch, part) for batch, part in read_parts(row_ids)]
    return pa.concat_tables(tables) if tables else DATASET_SCHEMA.empty_table()


def read_parts(
    row_ids: Collection[str] | None = None, folder: Path = paths.CURATED
) -> Iterator[tuple[Batch, pa.Table]]:
    """Each batch with rows in the dataset, and these rows (CURATED_SCHEMA), without removed ones."""
    removed = _removed(folder)
    for batch in read_manifest():
        if not (folder / batch.part).exists():
            continue
        part = _without_removed(_read_file(folder / batch.part, CURATED_SCHEMA), removed.get(batch.batch))
        if row_ids is not None:
            part = part.filter(pc.is_in(part["row_id"], pa.array(sorted(row_ids), pa.string())))
        if part.num_rows:
            yield batch, part


def read_pieces(map_function: MapFunction = map) -> Iterator[pa.Table]:
    """The rows of `read_dataset`, in its order, in portions: memory does not grow with their number. `map_function` converts the
    records that were read, in order, as `map` does.

    Raises:
        DataError: a raw batch is missing.
    """
    return map_function(lambda raw_part: rows_from(*raw_part), _read_all())


def _read_all() -> Iterator[RawPart]:
    removed = _removed(paths.CURATED)
    for batch in read_manifest():
        if (paths.CURATED / batch.part).exists():
            with pq.ParquetFile(paths.CURATED / batch.part) as file:
                part = (
                    fill_up(pa.Table.from_batches([table]), CURATED_SCHEMA)
                    for table in read_batches(file, ROWS_AT_ONCE, use_threads=False)
                )
                yield from _read(batch, (_without_removed(table, removed.get(batch.batch)) for table in part))


def pieces_of(batch: Batch, part: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows (DATASET_SCHEMA) of a part (CURATED_SCHEMA, ordered by `index`, in one table or several), in portions.

    Raises:
        DataError: the raw batch is missing, or has fewer records than the part refers to.
    """
    return (rows_from(*raw_part) for raw_part in _read(batch, part))


def _read(batch: Batch, part: Iterable[pa.Table]) -> Iterator[RawPart]:
    pending = _PendingRows(part)
    if pending.is_empty():
        return
    check_raw(batch, bytes_too=False)
    first = 0
    with pq.ParquetFile(batch.path) as file:
        for group in range(file.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            pending_here = pending.before(last)
            groups = [group] if pending_here.num_rows else []
            for batch_read in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, use_threads=False):
                low, high = np.searchsorted(pending_here["index"].to_numpy(), [first, first + batch_read.num_rows])
                if chosen := pending_here.slice(low, high - low):
                    raw = fill_up(pa.Table.from_batches([batch_read]))
                    if chosen.num_rows < raw.num_rows:
                        raw = raw.take(pc.subtract(chosen["index"], first))
                    yield raw, batch, chosen
                first += batch_read.num_rows
            first = last
    if not pending.is_empty():
        what = f"has {first} records, but data/curated refers to later ones"
        raise DataError(what, where=str(batch.path), fix="Restore it: dvc checkout data/raw.dvc")


class _PendingRows:
    """The rows of a part in the order of their batch, consumed from the start."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables = iter(tables)
        self._next = CURATED_SCHEMA.empty_table()

    def is_empty(self) -> bool:
        while not self._next.num_rows:
            next_table = next(self._tables, None)
            if next_table is None:
                return True
            self._next = next_table
        return False

    def before(self, end: int) -> pa.Table:
        """Consumes the rows before index `end` of the batch."""
        taken = [CURATED_SCHEMA.empty_table()]
        while not self.is_empty():
            count = int(np.searchsorted(self._next["index"].to_numpy(), end))
            taken.append(self._next.slice(0, count))
            self._next = self._next.slice(count)
            if self._next.num_rows:
                break
        return pa.concat_tables(taken)


def _read_file(path: Path, schema: pa.Schema) -> pa.Table:
    """All rows of a file. `pq.read_table` would import pyarrow.dataset and pandas: half a second for `strop status`."""
    with pq.ParquetFile(path) as file:
        return fill_up(file.read(), schema)


def _removed(folder: Path) -> dict[str, Indices]:
    """Batch → the indices of its rows that later batches removed, ascending."""
    by_batch: dict[str, list[Indices]] = defaultdict(list)
    for path in sorted(folder.glob(f"*{CHANGES}")):
        changes = _read_file(path, CHANGE_SCHEMA)
        for batch in pc.unique(changes["batch"]).to_pylist():
            by_batch[batch].append(changes.filter(pc.equal(changes["batch"], batch))["index"].to_numpy())
    return {batch: np.unique(np.concatenate(indices)) for batch, indices in by_batch.items()}


def _without_removed(part: pa.Table, removed: Indices | None) -> pa.Table:
    """The rows of a part (ordered by `index`) that were not removed."""
    if removed is None or not part.num_rows:
        return part
    index = part["index"].to_numpy()
    removed_here = removed[slice(*np.searchsorted(removed, [index[0], index[-1] + 1]))]
    return part.filter(pa.array(~np.isin(index, removed_here))) if len(removed_here) else part


def rows_of(batch: Batch, part: pa.Table, raw_file: Path | None = None) -> pa.Table:
    """The rows (DATASET_SCHEMA) of a part, with their cleaned text; from another `raw_file` if the batch is not in data/raw."""
    raw = read_raw_file(raw_file) if raw_file else read_raw(batch, check=False)
    return rows_from(raw.take(part["index"]), batch, part)


def rows_from(raw: pa.Table, batch: Batch, part: pa.Table) -> pa.Table:
    """As `rows_of`, for records that were read already: one per row of the part, in its order."""
    rows = to_rows(raw, batch, part["index"].to_pylist(), part["row_id"].to_pylist()).select(ROW_SCHEMA.names)
    for name in CLEANED_FIELDS:
        if part[name].null_count < part.num_rows:
            rows = rows.set_column(rows.schema.get_field_index(name), name, pc.coalesce(part[name], rows[name]))
    for name in ("split", "group"):
        rows = rows.append_column(name, part[name])
    return rows.cast(DATASET_SCHEMA)
