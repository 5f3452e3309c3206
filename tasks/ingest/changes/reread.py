"""Applies a source's present shape, family, columns, language and use to the rows that were collected before.

Raw only grows: each batch with another declaration is written again with the present one, and the old batch is excluded by a
decision. Its rows stay in earlier dataset versions; those of the new batch are in the next version or in quarantine. Rows that a
user dropped or forgot stay so under their new ids. An interrupted run continues when it is started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import SourceError
from tasks.ingest.batches import ROWS_AT_ONCE, BatchWriter, changes_of, remove_half_written
from tasks.ingest.changes.occurrences import RecordCounts
from tasks.ingest.changes.scan import manifest_digest, read_state, write_state
from tasks.ingest.connectors.connect import connect
from tasks.ingest.fields import SHAPES_WITH_IMAGES
from tasks.ingest.readers.column_check import ColumnCheck
from tasks.ingest.readers.images import ImageStore, image_reader
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.ingest.sources import ingest_lock
from tasks.records.ordered_json import loads
from tasks.records.parse import check_raw, fill_up, to_rows
from tasks.records.raw_batch import ERASED
from tasks.records.raw_notes import notes_of
from tasks.runtime.files import read_batches
from tasks.state.decisions import ON_ROWS, Decision, excluded_batches, read_decisions, record_decisions
from tasks.state.manifest import Batch, read_manifest, write_manifest


@dataclass
class Reread:
    """The result of reading a source's batches again."""

    source: str
    changed: list[str] = field(default_factory=list)
    """Changes of the declaration, as `shape alpaca → messages`."""
    batches: dict[str, str] = field(default_factory=dict)
    """Batch → the batch that replaces it."""
    rows: int = 0
    excluded_before: int = 0
    """Batches that a user had excluded: they are not read again."""
    carried: int = 0
    """Decisions about rows that were repeated for their new ids."""


def reread(source: Source) -> Reread:
    """Writes the batches, the manifest and the decisions; not to DVC.

    Raises:
        SourceError: the source has no batches, no record of one has a required column (nothing is written then), or an ingestion
            is running.
        DataError: a batch is missing or has changed.
    """
    with ingest_lock():
        remove_half_written()
        if not any(batch.source == source.name for batch in read_manifest()):
            raise SourceError("collected nothing yet", where=f"source `{source.name}`", fix="Collect it: strop run")
        return _reread(source)


def _reread(source: Source) -> Reread:
    manifest, decisions = read_manifest(), read_decisions()
    is_up_to_date = read_state().manifest == manifest_digest()
    own = [batch for batch in manifest if batch.source == source.name]
    excluded, changes = excluded_batches(decisions), {batch.batch: changes_of(batch, source) for batch in own}
    old = [batch for batch in own if batch.batch not in excluded and changes[batch.batch]]
    changed = list(dict.fromkeys(change for batch in old for change in changes[batch.batch]))
    result = Reread(source.name, changed, rows=sum(batch.rows for batch in old))
    origins = {batch.batch: notes_of(batch.path).reread_of or batch.batch for batch in own}
    present = {origins[batch.batch]: batch for batch in own if not changes[batch.batch]}
    result.excluded_before = sum(batch.batch in excluded and origins[batch.batch] not in present for batch in own)
    for batch in old:
        check_raw(batch)
        _require_columns(source, batch)
    for batch in old:
        new = present.get(origins[batch.batch])
        if new is None:
            new = _write(source, batch, origins[batch.batch], manifest)
            manifest.append(new)
            write_manifest(manifest)
        elif new.batch in excluded:  # this declaration was used before
            record_decisions("include", [new.batch], f"strop data reread {source.name}")
        result.carried += _carry(batch, new, read_decisions())
        record_decisions("exclude", [batch.batch], f"read again as {new.batch}: {', '.join(result.changed)}")
        result.batches[batch.batch] = new.batch
    if is_up_to_date:  # the sources' items are unchanged: they need not be read again
        state = read_state()
        state.manifest = manifest_digest()
        write_state(state)
    return result


def _chunks(batch: Batch) -> Iterator[pa.Table]:
    with pq.ParquetFile(batch.path) as file:
        for chunk in read_batches(file, ROWS_AT_ONCE):
            yield fill_up(pa.Table.from_batches([chunk]))


def _require_columns(source: Source, batch: Batch) -> None:
    columns = ColumnCheck(source)
    for chunk in _chunks(batch):
        for record in chunk["record"].to_pylist():
            if record is not None:
                columns.look_at(loads(record))
    columns.check(f"batch {batch.batch}")


def _write(source: Source, batch: Batch, origin: str, manifest: list[Batch]) -> Batch:
    chunks = _chunks(batch)
    first = next(chunks)
    file, shape = first["file"][0].as_py(), first["shape"][0].as_py()
    images = ImageStore(source, image_reader(source, file if connect(source).are_local_files else None))
    keeps_images = images.is_needed and shape not in SHAPES_WITH_IMAGES
    with BatchWriter(source, file, RecordCounts(), reread_of=origin) as writer:
        for chunk in chain([first], chunks):
            for row in chunk.select(["digest", "record", "raw", "error", "line"]).to_pylist():
                _add(writer, row, images if keeps_images else None)
        new = writer.finish({batch.batch for batch in manifest}, max(batch.ordinal for batch in manifest) + 1)
    assert new is not None
    return new


def _add(writer: BatchWriter, row: dict[str, Any], images: ImageStore | None) -> None:
    if row["error"] == ERASED:
        writer.add_erased(row["digest"], row["line"])
    elif row["record"] is None:
        writer.add(RawRecord(row["line"], None, row["raw"], row["error"]))
    else:
        record = loads(row["record"])
        writer.add(RawRecord(row["line"], images.stored(record) if images else record))


def _carry(old: Batch, new: Batch, decisions: list[Decision]) -> int:
    """Repeats decisions about rows for their new ids: drop, forget and pin, but not release; returns how many."""
    last = {decision.which: decision for decision in decisions if decision.what in ON_ROWS}
    valid = [decision for decision in last.values() if decision.what == "drop"]
    valid += [decision for decision in decisions if decision.what == "forget" or decision.what.startswith("pin_")]
    if not valid:
        return 0
    new_ids: dict[str, set[str]] = {}
    for before, after in zip(_chunks(old), _chunks(new), strict=True):
        ids = (to_rows(chunk, batch)["row_id"].to_pylist() for chunk, batch in ((before, old), (after, new)))
        for first, second in zip(*ids, strict=True):
            if first != second:
                new_ids.setdefault(first, set()).add(second)
    known = {(decision.what, decision.which) for decision in decisions}
    carried = 0
    for decision in valid:
        rows = [row for row in sorted(new_ids.get(decision.which, ())) if (decision.what, row) not in known]
        carried += len(record_decisions(decision.what, rows, f"as row {decision.which}: {decision.why}"))
    return carried
