"""The dataset: the fold of `data/curated`'s parts, one a batch, in the order in which the batches came.

A part says which rows of its raw batch are in, and on which side; the text is read from the raw batch, so that it is stored once.
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
"""Read together where the dataset is gone through."""
Places = npt.NDArray[np.int64]
Read = tuple[pa.Table, Batch, pa.Table]
"""Records of a batch (RAW_SCHEMA), and what its part says of each."""
Mapped = Callable[[Callable[[Read], pa.Table], Iterator[Read]], Iterator[pa.Table]]


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
    taken_out = _taken_out(folder)
    for batch in read_manifest():
        if not (folder / batch.part).exists():
            continue
        part = _without(_read_file(folder / batch.part, CURATED_SCHEMA), taken_out.get(batch.batch))
        if row_ids is not None:
            part = part.filter(pc.is_in(part["row_id"], pa.array(sorted(row_ids), pa.string())))
        if part.num_rows:
            yield batch, part


def read_pieces(mapped: Mapped = map) -> Iterator[pa.Table]:
    """The rows of `read_dataset`, in its order, some at a time: memory does not grow with their number.

    Args:
        mapped: makes rows of the records that were read; in its order, as `map` does.

    Raises:
        DataError: a raw batch is not on the disk.
    """
    return mapped(lambda read: rows_from(*read), _read_all())


def _read_all() -> Iterator[Read]:
    taken_out = _taken_out(paths.CURATED)
    for batch in read_manifest():
        if (paths.CURATED / batch.part).exists():
            with pq.ParquetFile(paths.CURATED / batch.part) as file:
                part = (
                    fill_up(pa.Table.from_batches([some]), CURATED_SCHEMA)
                    for some in read_batches(file, ROWS_AT_ONCE, use_threads=False)
                )
                yield from _read(batch, (_without(some, taken_out.get(batch.batch)) for some in part))


def pieces_of(batch: Batch, part: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows (DATASET_SCHEMA) that a part names, some at a time.

    Args:
        part: CURATED_SCHEMA, by `index`, in one table or several.

    Raises:
        DataError: the raw batch is not on the disk, or is shorter than the part says.
    """
    return (rows_from(*read) for read in _read(batch, part))


def _read(batch: Batch, part: Iterable[pa.Table]) -> Iterator[Read]:
    waiting = _Waiting(part)
    if waiting.is_empty():
        return
    check_raw(batch, bytes_too=False)
    first = 0
    with pq.ParquetFile(batch.path) as file:
        for group in range(file.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            here = waiting.before(last)
            for read in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], use_threads=False) if here.num_rows else ():
                low, high = np.searchsorted(here["index"].to_numpy(), [first, first + read.num_rows])
                if chosen := here.slice(low, high - low):
                    raw = fill_up(pa.Table.from_batches([read]))
                    if chosen.num_rows < raw.num_rows:
                        raw = raw.take(pc.subtract(chosen["index"], first))
                    yield raw, batch, chosen
                first += read.num_rows
            first = last
    if not waiting.is_empty():
        what = f"has {first} records, but data/curated names later ones of it"
        raise DataError(what, where=str(batch.path), fix="Bring it back: dvc checkout data/raw.dvc")


class _Waiting:
    """Rows of a part in the order of their batch, from which those at its start are taken."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables = iter(tables)
        self._next = CURATED_SCHEMA.empty_table()

    def is_empty(self) -> bool:
        while not self._next.num_rows:
            more = next(self._tables, None)
            if more is None:
                return True
            self._next = more
        return False

    def before(self, end: int) -> pa.Table:
        """Those not yet taken that stand before place `end` of the batch."""
        taken = [CURATED_SCHEMA.empty_table()]
        while not self.is_empty():
            count = int(np.searchsorted(self._next["index"].to_numpy(), end))
            taken.append(self._next.slice(0, count))
            self._next = self._next.slice(count)
            if self._next.num_rows:
                break
        return pa.concat_tables(taken)


def _read_file(path: Path, schema: pa.Schema) -> pa.Table:
    """All rows. `pq.read_table` imports pyarrow.dataset and pandas, half a second for `strop status`."""
    with pq.ParquetFile(path) as file:
        return fill_up(file.read(), schema)


def _taken_out(folder: Path) -> dict[str, Places]:
    """Batch → the places of its rows that later batches took out of training, ascending."""
    found: dict[str, list[Places]] = defaultdict(list)
    for path in sorted(folder.glob(f"*{CHANGES}")):
        changes = _read_file(path, CHANGE_SCHEMA)
        for batch in pc.unique(changes["batch"]).to_pylist():
            found[batch].append(changes.filter(pc.equal(changes["batch"], batch))["index"].to_numpy())
    return {batch: np.unique(np.concatenate(places)) for batch, places in found.items()}


def _without(part: pa.Table, taken_out: Places | None) -> pa.Table:
    """The rows of a part, by `index`, that were not taken out."""
    if taken_out is None or not part.num_rows:
        return part
    index = part["index"].to_numpy()
    gone = taken_out[slice(*np.searchsorted(taken_out, [index[0], index[-1] + 1]))]
    return part.filter(pa.array(~np.isin(index, gone))) if len(gone) else part


def rows_of(batch: Batch, part: pa.Table, raw_file: Path | None = None) -> pa.Table:
    """The rows (DATASET_SCHEMA) that a part names, with the text as `curate` left it.

    Args:
        raw_file: where the raw batch lies, if not in data/raw.
    """
    raw = read_raw_file(raw_file) if raw_file else read_raw(batch, check=False)
    return rows_from(raw.take(part["index"]), batch, part)


def rows_from(raw: pa.Table, batch: Batch, part: pa.Table) -> pa.Table:
    """As `rows_of`, of records that were read already: one a line of the part, in its order."""
    rows = to_rows(raw, batch, part["index"].to_pylist(), part["row_id"].to_pylist()).select(ROW_SCHEMA.names)
    for name in CLEANED_FIELDS:
        if part[name].null_count < part.num_rows:
            rows = rows.set_column(rows.schema.get_field_index(name), name, pc.coalesce(part[name], rows[name]))
    for name in ("split", "group"):
        rows = rows.append_column(name, part[name])
    return rows.cast(DATASET_SCHEMA)
