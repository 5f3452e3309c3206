"""Writes what is new in one file as one immutable parquet batch, in bounded memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.ingest.changes.occurrences import Digests, HeldRecords, Reading
from tasks.ingest.changes.unused_fields import UnusedFields
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.records.raw_batch import ERASED, RAW_SCHEMA, batch_id_of, identified, record_digest
from tasks.records.raw_notes import Notes, notes_of
from tasks.runtime.files import canonical_json, file_digest, read_batches
from tasks.state.manifest import Batch

ROWS_AT_ONCE = 2_000
"""Rows a row group: a room that looks a few rows up reads little more than those."""
DIGESTS_AT_ONCE = 65_536
BYTES_AT_ONCE = 32 * 1024 * 1024
MOST_REPEATS = 64
"""A batch found without a manifest is known by its name if at most this many before it held the same records."""


class BatchWriter:
    """Takes the records of one file, keeps the new ones, and becomes a batch.

        with BatchWriter(source, "inbox/a.jsonl", held) as writer:
            writer.add(record)
            batch = writer.finish(taken, ordinal)

    Args:
        held: how often the source's raw batches already hold each record.
        erased: digests of records that were erased on request: one that comes again is kept without its content.
        reread_of: the batch whose records these are, read again under other settings.
    """

    def __init__(
        self, source: Source, file: str, held: HeldRecords, erased: Collection[str] = (), reread_of: str = ""
    ) -> None:
        self.source = source
        self.file = file
        self.held = held
        self.reread_of = reread_of
        self.erased = erased
        self.digests = Digests()
        self.unused = UnusedFields(source)
        self.unreadable = 0
        self.bytes_seen = 0
        self._reading = Reading(held)
        self._waiting: list[tuple[str, str | None, bytes | None, str | None, int]] = []
        self._waiting_bytes = 0
        self._folder = paths.RAW / source.name
        self._temporary = self._folder / f".{source.name}.writing"
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._writer is not None:
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, found: RawRecord) -> bool:
        """Keeps the record if the source does not already have it this many times; says whether it did."""
        record, digest = identified(found.record) if found.raw is None else (None, record_digest(None, found.raw))
        size = len(record or found.raw or b"")
        self.bytes_seen += size
        if not self._reading.is_new(digest):
            return False
        self.digests.append(digest)
        self.unused.look_at(found.record)
        if digest in self.erased:
            self._waiting.append((digest, None, None, ERASED, found.line))
        else:
            self.unreadable += record is None
            self._waiting.append((digest, record, found.raw, found.error, found.line))
        self._waiting_bytes += size
        if len(self._waiting) >= ROWS_AT_ONCE or self._waiting_bytes >= BYTES_AT_ONCE:
            self._flush()
        return True

    def add_erased(self, digest: str, line: int) -> None:
        """Keeps the place of a record whose content was erased."""
        self.digests.append(digest)
        self._waiting.append((digest, None, None, ERASED, line))
        if len(self._waiting) >= ROWS_AT_ONCE:
            self._flush()

    def finish(self, taken: Collection[str], ordinal: int) -> Batch | None:
        """Puts the batch in its place; None where nothing was new. The caller then writes the manifest.

        Args:
            taken: the names of all batches so far.
            ordinal: its place in the order of arrival.
        """
        if not self.digests:
            return None
        self._flush()
        assert self._writer is not None
        if said := Notes(tuple(sorted(map(str, map(_text, self.unused.fields)))), self.reread_of).as_metadata():
            self._writer.add_key_value_metadata(said)
        self._writer.close()
        self._writer = None
        target = self._path(taken)
        sync(self._temporary)
        self._temporary.replace(target)
        self.held.add(self.digests)
        return Batch(ordinal, target.stem, self.source.name, len(self.digests), file_digest(target))

    def _path(self, taken: Collection[str]) -> Path:
        again = 0
        while (name := batch_id_of(self.source.name, self.digests, again)) in taken:
            again += 1
        return self._folder / f"{name}.parquet"

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._temporary, RAW_SCHEMA, compression="zstd", store_schema=False)
        digests, records, raws, errors, lines = zip(*self._waiting, strict=True)
        own = {"digest": digests, "record": records, "raw": raws, "error": [_text(e) for e in errors], "line": lines}
        common = {"file": _text(self.file), **declaration_of(self.source)}
        rows = len(self._waiting)
        columns = [
            pa.array(own[field.name], field.type) if field.name in own else pa.repeat(common[field.name], rows)
            for field in RAW_SCHEMA
        ]
        self._waiting.clear()
        self._waiting_bytes = 0
        self._writer.write_table(pa.Table.from_arrays(columns, schema=RAW_SCHEMA))


def _text(text: str | None) -> str | None:
    """The text as any file can hold it: names of files and keys may hold half surrogates."""
    return text if text is None or text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def sync(path: Path) -> None:
    """Flushes a file to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def held_in(batches: list[Batch]) -> HeldRecords:
    """How often each record was collected in these batches; one that was read again counts once."""
    digests, held = Digests(), HeldRecords()
    for batch in (each for each in batches if not notes_of(each.path).reread_of):
        with pq.ParquetFile(batch.path) as file:
            for some in read_batches(file, DIGESTS_AT_ONCE, columns=["digest"]):
                digests.extend(some["digest"].to_pylist())
    held.add(digests)
    return held


def leftover_batches(manifest: list[Batch]) -> list[Batch]:
    """Whole batches on the disk that the manifest does not name, in the order in which they were written."""
    named = {batch.path for batch in manifest}
    found = [path for path in paths.RAW.glob("*/*.parquet") if path not in named and _is_batch(path)]
    ordinal = max((batch.ordinal for batch in manifest), default=0)
    return [
        Batch(ordinal + place, path.stem, path.parent.name, pq.read_metadata(path).num_rows, file_digest(path))
        for place, path in enumerate(sorted(found, key=lambda path: path.stat().st_mtime_ns), start=1)
    ]


def _is_batch(path: Path) -> bool:
    """Is the file named by its own content? Anything else in data/raw is not ours, and is left alone."""
    try:
        digests = pq.read_table(path, columns=["digest"])["digest"].to_pylist()
    except (pa.ArrowInvalid, KeyError):
        return False
    return any(path.stem == batch_id_of(path.parent.name, digests, again) for again in range(MOST_REPEATS))


def remove_half_written() -> None:
    """Removes what a crash left half-written: temporary files, never batches."""
    for path in (*paths.RAW.glob("*/.*.writing"), *paths.RAW.glob("*/images/.*")):
        path.unlink()
    for folder in paths.CACHE.glob("fetched-*"):
        shutil.rmtree(folder, ignore_errors=True)


DECLARED = ("shape", "family", "language", "columns", "use")


def declaration_of(source: Source) -> dict[str, str]:
    """How the source's records are to be read."""
    given = {name: str(getattr(source, name)) for name in DECLARED}
    return given | {"columns": canonical_json(dict(source.columns))}


def declared_of(batch: Batch) -> dict[str, str]:
    """How the batch's source was declared when it came."""
    with pq.ParquetFile(batch.path) as file:
        first = next(file.iter_batches(batch_size=1, columns=list(DECLARED))).to_pylist()[0]
    return {name: first.get(name) or "train" for name in DECLARED}  # batches of old say no use: all were trained on
