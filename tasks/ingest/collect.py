"""Collects the items of one source: the new records of each become a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from typing import Any

from tasks.errors import DataError, SourceError
from tasks.ingest.batches import BatchWriter, count_records
from tasks.ingest.changes.file_digests import digests_of, disk_errors_of, records_with_disk_errors
from tasks.ingest.changes.occurrences import RecordCounts, Sample
from tasks.ingest.changes.unused_fields import note
from tasks.ingest.connectors.connect import connect
from tasks.ingest.connectors.connector import OpenItem
from tasks.ingest.connectors.listing import ItemState
from tasks.ingest.connectors.local import require_readable
from tasks.ingest.notes import changed_declaration, rewritten
from tasks.ingest.readers.column_check import ColumnCheck
from tasks.ingest.readers.images import ImageStore
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source
from tasks.records.raw_batch import digest_of
from tasks.records.raw_notes import notes_of
from tasks.runtime.progress import Progress, track
from tasks.state.erasures import erased_digests
from tasks.state.manifest import Batch

ROWS_A_STEP = 2_000
SHOW_PROGRESS_FROM_BYTES = 20_000_000
REPORTED_ONCE = ("truncated_archive", "damaged_archive", "no_partner")
"""Errors of a record that concern the whole file: the first one is reported."""


class Collector:
    """Collects the items of one source; `new` contains their batches.

    Args:
        manifest: all batches so far; it is not changed.
        problems: messages for the user are appended here.
    """

    def __init__(self, source: Source, manifest: list[Batch], problems: list[str]) -> None:
        self.source = source
        self.connector = connect(source)
        self.manifest = manifest
        self.problems = problems
        self.new: list[Batch] = []
        self.unreadable = 0
        self.current: dict[str, str] = {}
        """Of a source with a `record_key`: key → digest of its present record."""
        self.has_read = False
        """Whether an item was read to its end."""
        self._batch_ids = {batch.batch for batch in manifest}
        self._ordinal = max((batch.ordinal for batch in manifest), default=0)
        self._unused: set[str] | None = None
        self._sample: Sample | None = None
        own = [batch for batch in manifest if batch.source == source.name and source.max_rows is not None]
        self._rows = sum(batch.rows for batch in own if not notes_of(batch.path).reread_of)

    @cached_property
    def record_counts(self) -> RecordCounts:
        """How often raw already contains each record; read only if an item has to be read."""
        batches = [batch for batch in self.manifest if batch.source == self.source.name]
        try:
            if batches:
                self.problems += changed_declaration(self.source, batches)
            return count_records(batches)
        except FileNotFoundError as error:
            fix = "Restore it: dvc checkout data/raw.dvc"
            raise DataError("is in the manifest, but not on the disk", where=str(error.filename), fix=fix) from error

    @cached_property
    def _erased(self) -> frozenset[str]:
        return erased_digests()

    def collect(self, name: str, now: ItemState, before: ItemState | None) -> ItemState:
        """Collects the new records of an item; returns the state in which it was read.

        Raises:
            SourceError: it cannot be read, or lacks a column.
        """
        if before is not None and now.is_same(before):
            return before
        if self._rows_left() == 0:
            return now
        if self.connector.are_local_files:
            return self._collect_file(name, now, before)
        with self.connector.open_item(name, before) as item:
            self._read(name, item)
        return now

    def draw_sample(self, items: dict[str, ItemState], states: dict[str, ItemState]) -> None:
        """Chooses the records of a random sample of `max_rows`; an item that cannot be read is reported by `collect`."""
        rows = self._rows_left()
        if self.source.sample_seed is None or not rows:
            return
        sample = Sample(self.source.sample_seed, rows)
        for name, now in items.items():
            before = states.get(name)
            if before is not None and now.is_same(before):
                continue
            if self.connector.are_local_files:
                before = None  # a grown file is sampled as a whole
            with suppress(SourceError, OSError), self.connector.open_item(name, before) as item:
                sample.rank(item.records, self.record_counts)
        self._sample = sample

    def _collect_file(self, name: str, now: ItemState, before: ItemState | None) -> ItemState:
        files = require_readable(self.source, name)
        with disk_errors_of(name):
            digests = digests_of(files, now.size, before.size if before else None)
        if before is not None and before.sha256 is not None and digests.whole != before.sha256:
            self.problems += rewritten(self.source, name, now, before, digests.start)
        images = None
        if before is None or digests.whole != before.sha256:
            is_appended = before is not None and before.lines is not None and digests.start == before.sha256
            images = self._read_appended(name, before) if is_appended else None
            if images is None:
                with self.connector.open_item(name, None) as item:
                    images = self._read(name, item)
        # images may change or appear while the file that names them is unchanged: it is then read from its start
        has_missing_images = images is not None and images.faults > 0
        lines = None if images is not None and images.named else digests.lines
        return ItemState(now.size, now.mtime_ns, None if has_missing_images else digests.whole, lines)

    def _rows_left(self) -> int | None:
        """How many rows may still be collected; None without `max_rows`."""
        if self.source.max_rows is None:
            return None
        return max(self.source.max_rows - self._rows, 0)

    def _writer(self, name: str) -> BatchWriter:
        return BatchWriter(self.source, name, self.record_counts, self._erased)

    def _read(self, name: str, item: OpenItem) -> ImageStore:
        columns = ColumnCheck(self.source)
        images = ImageStore(self.source, item.read_image)
        with self._writer(name) as writer, _progress_of(item) as progress:
            rows = 0
            for rows in self._write(records_with_disk_errors(name, item.records), writer, columns, images):
                if progress and rows % ROWS_A_STEP == 0:
                    progress.advance(writer.bytes_seen / 1e6 - progress.done)
            columns.check(name)
            if not rows and item.is_whole:
                self.problems.append(f"{name}: contains no records")
            self._finish(writer)
        self.has_read = True
        if images.faults:
            count = "1 image" if images.faults == 1 else f"{images.faults:,} images"
            fix = "put them there, then touch the file"
            self.problems.append(f"{name}: {count} could not be read; {fix} ({images.first_fault})")
        return images

    def _read_appended(self, name: str, before: ItemState | None) -> ImageStore | None:
        """Reads a file from its earlier end; None if it has to be read as a whole.

        A record is new if it occurs more often in the whole file than in raw. So the earlier part matters as soon as an
        appended record is already in raw; most are not.
        """
        with self.connector.open_item(name, before) as item:
            if item.is_whole:
                return None
            columns = ColumnCheck(self.source)
            images = ImageStore(self.source, item.read_image)
            with self._writer(name) as writer:
                rows = 0
                for rows in self._write(records_with_disk_errors(name, item.records), writer, columns, images):
                    if len(writer.digests) < rows:
                        return None
                if columns.missing() or images.faults:
                    return None
                self._finish(writer)
        return images

    def _write(
        self, records: Iterator[RawRecord], writer: BatchWriter, columns: ColumnCheck, images: ImageStore
    ) -> Iterator[int]:
        """Writes the new records, up to the source's `max_rows`; yields how many records were read."""
        rows_left = self._rows_left()
        reported: set[str] = set()
        for rows, record in enumerate(records, start=1):
            columns.look_at(record.record)
            if self._sample is not None and not self._sample.is_selected(record):
                yield rows
                continue
            if record.is_parsed and images.is_needed:
                record = RawRecord(record.line, images.stored(record.record))
            elif not record.is_parsed:
                self._report_once(record, writer.file, reported)
            self._note_current(record.record)
            writer.add(record)
            yield rows
            if len(writer.digests) == rows_left:
                if self._sample is None and next(records, None) is not None:
                    what = f"{writer.file}: only its first rows were collected (`max_rows`)"
                    self.problems.append(f"{what}; for a random sample of all rows: `sample_seed: 0`")
                return

    def _note_current(self, record: Any) -> None:
        key = self.connector.record_key
        if key is not None and isinstance(record, dict) and key in record:
            self.current[str(record[key])] = digest_of(record)

    def _report_once(self, record: RawRecord, file: str, reported: set[str]) -> None:
        code = (record.error or "").split(":")[0]
        if code in REPORTED_ONCE and code not in reported:
            reported.add(code)
            self.problems.append(f"{file}: {record.error}")

    def _finish(self, writer: BatchWriter) -> None:
        batch = writer.finish(self._batch_ids, self._ordinal + 1)
        if batch:
            self.new.append(batch)
            self._batch_ids.add(batch.batch)
            self._ordinal = batch.ordinal
            self._rows += batch.rows
            self.unreadable += writer.unreadable
            self._report_unused(writer.unused.fields)

    def _report_unused(self, fields: set[str]) -> None:
        """Reports each unused field once a source: not again if its last batch already has the note."""
        if self._unused is None:
            own = [batch for batch in self.manifest if batch.source == self.source.name]
            self._unused = set(notes_of(own[-1].path).unused) if own else set()
        if new := fields - self._unused:
            self.problems.append(note(self.source.name, new))
            self._unused |= new


def _progress_of(item: OpenItem) -> AbstractContextManager[Progress | None]:
    """Progress for a file that takes more than a moment."""
    return track("ingest", item.size / 1e6, "MB") if item.size >= SHOW_PROGRESS_FROM_BYTES else nullcontext()
