"""Writes the new records of one item as one immutable Parquet batch, in bounded memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.ingest.changes.occurrences import Digests, ItemOccurrences, RecordCounts
from tasks.ingest.changes.unused_fields import UnusedFields
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.records.raw_batch import ERASED, RAW_SCHEMA, batch_id_of, identified, record_digest
from tasks.records.raw_notes import Notes, notes_of
from tasks.runtime.files import canonical_json, file_digest, read_batches, remove_interrupted
from tasks.state.manifest import Batch

ROWS_AT_ONCE = 2_000
"""Rows of a row group: few, so that a room that reads single rows reads little else."""
DIGESTS_AT_ONCE = 65_536
BYTES_AT_ONCE = 32 * 1024 * 1024
MOST_REPEATS = 64
"""A batch without a manifest is recognised by its name if at most this many earlier batches have the same records."""


class BatchWriter:
    """Writes the new records of one item as a batch.

        with BatchWriter(source, "inbox/a.jsonl", record_counts) as writer:
            writer.add(record)
            batch = writer.finish(batch_ids, ordinal)

    Args:
        record_counts: how often the source's raw batches already contain each record.
        erased: digests of records that were erased on request: they are stored without their content.
        reread_of: the batch with the same records, which are read again with other settings.
    """

    def __init__(
        self, source: Source, file: str, record_counts: RecordCounts, erased: Collection[str] = (), reread_of: str = ""
    ) -> None:
        self.source = source
        self.file = file
        self.record_counts = record_counts
        self.reread_of = reread_of
        self.erased = erased
        self.digests = Digests()
        self.unused = UnusedFields(source)
        self.unreadable = 0
        self.bytes_seen = 0
        self._occurrences = ItemOccurrences(record_counts)
        self._pending: list[tuple[str, str | None, bytes | None, str | None, int]] = []
        self._pending_bytes = 0
        self._folder = paths.RAW / source.name
        self._temporary = self._folder / f".{source.name}.writing"
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._writer is not None:
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, raw: RawRecord) -> None:
        """Stores the record unless the source has it this many times already."""
        record, digest = identified(raw.record) if raw.raw is None else (None, record_digest(None, raw.raw))
        size = len(record or raw.raw or b"")
        self.bytes_seen += size
        if not self._occurrences.is_new(digest):
            return
        self.unused.look_at(raw.record)
        self._pending_bytes += size
        if digest in self.erased:
            self.add_erased(digest, raw.line)
        else:
            self.unreadable += record is None
            self._append(digest, record, raw.raw, raw.error, raw.line)

    def add_erased(self, digest: str, line: int) -> None:
        """Stores a record whose content was erased, without it."""
        self._append(digest, None, None, ERASED, line)

    def _append(self, digest: str, record: str | None, raw: bytes | None, error: str | None, line: int) -> None:
        self.digests.append(digest)
        self._pending.append((digest, record, raw, error, line))
        if len(self._pending) >= ROWS_AT_ONCE or self._pending_bytes >= BYTES_AT_ONCE:
            self._flush()

    def finish(self, batch_ids: Collection[str], ordinal: int) -> Batch | None:
        """Moves the batch into data/raw; None if no record was new. The caller then writes the manifest.

        Args:
            batch_ids: of all batches so far.
            ordinal: its number in the order of collection.
        """
        if not self.digests:
            return None
        self._flush()
        assert self._writer is not None
        if notes := Notes(tuple(sorted(map(str, map(_text, self.unused.fields)))), self.reread_of).as_metadata():
            self._writer.add_key_value_metadata(notes)
        self._writer.close()
        self._writer = None
        target = self._path(batch_ids)
        sync(self._temporary)
        self._temporary.replace(target)
        self.record_counts.add(self.digests)
        return Batch(ordinal, target.stem, self.source.name, len(self.digests), file_digest(target))

    def _path(self, batch_ids: Collection[str]) -> Path:
        again = 0
        while (name := batch_id_of(self.source.name, self.digests, again)) in batch_ids:
            again += 1
        return self._folder / f"{name}.parquet"

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._temporary, RAW_SCHEMA, compression="zstd", store_schema=False)
        digests, records, raws, errors, lines = zip(*self._pending, strict=True)
        own = {"digest": digests, "record": records, "raw": raws, "error": [_text(e) for e in errors], "line": lines}
        common = {"file": _text(self.file), **declaration_of(self.source)}
        rows = len(self._pending)
        columns = [
            pa.array(own[field.name], field.type) if field.name in own else pa.repeat(common[field.name], rows)
            for field in RAW_SCHEMA
        ]
        self._pending.clear()
        self._pending_bytes = 0
        self._writer.write_table(pa.Table.from_arrays(columns, schema=RAW_SCHEMA))


def _text(text: str | None) -> str | None:
    """The text as valid UTF-8: names of files and keys may contain lone surrogates."""
    return text if text is None or text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def sync(path: Path) -> None:
    """Flushes a file to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def count_records(batches: list[Batch]) -> RecordCounts:
    """How often each record was collected in these batches; a batch that was read again counts once."""
    digests, record_counts = Digests(), RecordCounts()
    for batch in (batch for batch in batches if not notes_of(batch.path).reread_of):
        with pq.ParquetFile(batch.path) as file:
            for part in read_batches(file, DIGESTS_AT_ONCE, columns=["digest"]):
                digests.extend(part["digest"].to_pylist())
    record_counts.add(digests)
    return record_counts


def leftover_batches(manifest: list[Batch]) -> list[Batch]:
    """Complete batches on the disk that are not in the manifest, in the order of writing."""
    named = {batch.path for batch in manifest}
    unnamed = [path for path in paths.RAW.glob("*/*.parquet") if path not in named and _is_batch(path)]
    ordinal = max((batch.ordinal for batch in manifest), default=0)
    return [
        Batch(ordinal + number, path.stem, path.parent.name, pq.read_metadata(path).num_rows, file_digest(path))
        for number, path in enumerate(sorted(unnamed, key=lambda path: path.stat().st_mtime_ns), start=1)
    ]


def _is_batch(path: Path) -> bool:
    """Whether the file's name is the id of its content; other files in data/raw are not ours, and are ignored."""
    try:
        digests = pq.read_table(path, columns=["digest"])["digest"].to_pylist()
    except (pa.ArrowInvalid, KeyError):
        return False
    return any(path.stem == batch_id_of(path.parent.name, digests, again) for again in range(MOST_REPEATS))


def remove_half_written() -> None:
    """Removes temporary files that a crash left, never batches: each would become a file of the dataset version."""
    remove_interrupted(paths.RAW)
    for path in (*paths.RAW.glob("*/.*.writing"), *paths.RAW.glob("*/images/.*")):
        path.unlink()
    for folder in paths.CACHE.glob("fetched-*"):
        shutil.rmtree(folder, ignore_errors=True)


DECLARED = ("shape", "family", "language", "columns", "use")


def declaration_of(source: Source) -> dict[str, str]:
    """The settings of the source that convert its records to rows."""
    declared = {name: str(getattr(source, name)) for name in DECLARED}
    return declared | {"columns": canonical_json(dict(source.columns))}


def changes_of(batch: Batch, source: Source) -> list[str]:
    """Changes of the source's declaration since the batch was collected, as `shape alpaca → messages`."""
    now, then = declaration_of(source), _declared_of(batch)
    return [f"{name} {then[name]} → {now[name]}" for name in now if then[name] != now[name]]


def _declared_of(batch: Batch) -> dict[str, str]:
    """`declaration_of` the batch's source when it was collected."""
    with pq.ParquetFile(batch.path) as file:
        first = next(file.iter_batches(batch_size=1, columns=list(DECLARED))).to_pylist()[0]
    # old batches have no use: all rows were for training
    return {name: first.get(name) or "train" for name in DECLARED}
