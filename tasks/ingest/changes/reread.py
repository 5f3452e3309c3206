"""Reads again what a source collected, under its present shape, family, columns, language and use.

Raw only grows: each batch that was declared otherwise is written once more with the present declaration, and the older one is
excluded by a decision. Its rows stay in the dataset versions that have them; those of the new batch are in the next one, or in
quarantine. What a person dropped or had forgotten stays so under its new id. Cut short, it goes on when it is run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import SourceError
from tasks.ingest.batches import ROWS_AT_ONCE, BatchWriter, declaration_of, declared_of
from tasks.ingest.changes.occurrences import HeldRecords
from tasks.ingest.changes.scan import manifest_digest, read_state, write_state
from tasks.ingest.connectors.connect import connect
from tasks.ingest.fields import SHAPES_WITH_IMAGES
from tasks.ingest.readers.column_check import ColumnCheck
from tasks.ingest.readers.images import ImageStore, image_reader
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.records.ordered_json import loads
from tasks.records.parse import check_raw, fill_up, to_rows
from tasks.records.raw_batch import ERASED
from tasks.records.raw_notes import notes_of
from tasks.runtime.files import read_batches
from tasks.state.decisions import ON_ROWS, Decision, excluded_batches, read_decisions, record_decisions
from tasks.state.manifest import Batch, read_manifest, write_manifest


@dataclass
class Reread:
    """What was read again."""

    source: str
    changed: list[str] = field(default_factory=list)
    """What is declared otherwise, as `shape alpaca → messages`."""
    batches: dict[str, str] = field(default_factory=dict)
    """Batch → the one that stands for it now."""
    rows: int = 0
    excluded_before: int = 0
    """Batches that a person had excluded: they are left as they are."""
    carried: int = 0
    """Decisions to drop or forget a row that hold under its new id."""


def reread(source: Source) -> Reread:
    """Writes the batches, the manifest and the decisions; DVC is not told.

    Raises:
        SourceError: no record of a batch has a column that is needed now: nothing is written then.
        DataError: a batch is not on the disk, or is not what was collected.
    """
    manifest, decisions = read_manifest(), read_decisions()
    is_seen = read_state().manifest == manifest_digest()
    own = [batch for batch in manifest if batch.source == source.name]
    excluded, now = excluded_batches(decisions), declaration_of(source)
    old = [batch for batch in own if batch.batch not in excluded and declared_of(batch) != now]
    done = Reread(source.name, _changed(old, now), rows=sum(batch.rows for batch in old))
    origins = {batch.batch: notes_of(batch.path).reread_of or batch.batch for batch in own}
    standing = {origins[batch.batch]: batch for batch in own if declared_of(batch) == now}
    done.excluded_before = sum(batch.batch in excluded and origins[batch.batch] not in standing for batch in own)
    for batch in old:
        check_raw(batch)
        _require_columns(source, batch)
    for batch in old:
        new = standing.get(origins[batch.batch])
        if new is None:
            new = _write(source, batch, origins[batch.batch], manifest)
            manifest.append(new)
            write_manifest(manifest)
        elif new.batch in excluded:  # it was declared so before
            record_decisions("include", [new.batch], f"strop data reread {source.name}")
        done.carried += _carry(batch, new, read_decisions())
        record_decisions("exclude", [batch.batch], f"read again as {new.batch}: {', '.join(done.changed)}")
        done.batches[batch.batch] = new.batch
    if is_seen:  # its files were not read: they need not be looked at again
        state = read_state()
        state.manifest = manifest_digest()
        write_state(state)
    return done


def _changed(old: list[Batch], now: dict[str, str]) -> list[str]:
    found: dict[str, None] = {}
    for batch in old:
        then = declared_of(batch)
        found |= {f"{name} {then[name]} → {now[name]}": None for name in now if then[name] != now[name]}
    return list(found)


def _chunks(batch: Batch) -> Iterator[pa.Table]:
    with pq.ParquetFile(batch.path) as file:
        for read in read_batches(file, ROWS_AT_ONCE):
            yield fill_up(pa.Table.from_batches([read]))


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
    with BatchWriter(source, file, HeldRecords(), reread_of=origin) as writer:
        for chunk in chain([first], chunks):
            for row in chunk.select(["digest", "record", "raw", "error", "line"]).to_pylist():
                _add(writer, row, images if keeps_images else None)
        made = writer.finish({each.batch for each in manifest}, max(each.ordinal for each in manifest) + 1)
    assert made is not None
    return made


def _add(writer: BatchWriter, row: dict[str, Any], images: ImageStore | None) -> None:
    if row["error"] == ERASED:
        writer.add_erased(row["digest"], row["line"])
    elif row["record"] is None:
        writer.add(RawRecord(row["line"], None, row["raw"], row["error"]))
    else:
        record = loads(row["record"])
        writer.add(RawRecord(row["line"], images.kept(record) if images else record))


def _carry(old: Batch, new: Batch, decisions: list[Decision]) -> int:
    """What holds of a row holds under its new id: that it is dropped, forgotten or pinned to a side. A release does not."""
    last = {each.which: each for each in decisions if each.what in ON_ROWS}
    holding = [each for each in last.values() if each.what == "drop"]
    holding += [each for each in decisions if each.what == "forget" or each.what.startswith("pin_")]
    if not holding:
        return 0
    new_ids: dict[str, set[str]] = {}
    for before, after in zip(_chunks(old), _chunks(new), strict=True):
        ids = (to_rows(chunk, batch)["row_id"].to_pylist() for chunk, batch in ((before, old), (after, new)))
        for first, second in zip(*ids, strict=True):
            if first != second:
                new_ids.setdefault(first, set()).add(second)
    known = {(each.what, each.which) for each in decisions}
    carried = 0
    for each in holding:
        rows = [row for row in sorted(new_ids.get(each.which, ())) if (each.what, row) not in known]
        carried += len(record_decisions(each.what, rows, f"as row {each.which}: {each.why}"))
    return carried


def reread_alone(source: Source) -> Reread:
    """As `reread`, while no ingestion is at work.

    Raises:
        SourceError: another one is.
    """
    from tasks.ingest.sources import ingest_lock

    with ingest_lock():
        if not any(batch.source == source.name for batch in read_manifest()):
            raise SourceError("collected nothing yet", where=f"source `{source.name}`", fix="Collect it: strop run")
        return reread(source)
