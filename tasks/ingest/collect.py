"""One source's items, one after another: what is new in each becomes a batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path

from tasks.errors import DataError, SourceError
from tasks.ingest.batches import BatchWriter, held_in
from tasks.ingest.changes.occurrences import Held
from tasks.ingest.changes.sampling import Sample
from tasks.ingest.changes.scan import digests_of, is_remote
from tasks.ingest.changes.unused_fields import note
from tasks.ingest.connectors.corrections import TRACE
from tasks.ingest.connectors.listing import Seen
from tasks.ingest.notes import declared_otherwise, rewritten
from tasks.ingest.open_item import Opened, opened
from tasks.ingest.reachable import require_readable
from tasks.ingest.readers.column_check import NeededColumns
from tasks.ingest.readers.dispatch import format_of
from tasks.ingest.readers.images import ImageKeeper
from tasks.ingest.readers.lines import RawRecord
from tasks.ingest.readers.text_conll_parallel import partner_of
from tasks.ingest.settings import Source
from tasks.records.raw_batch import digest_of
from tasks.records.raw_notes import notes_of
from tasks.runtime.progress import Progress, track
from tasks.state.erasures import erased_digests
from tasks.state.manifest import Batch

ROWS_A_STEP = 2_000
SHOW_PROGRESS_FROM_BYTES = 20_000_000
TOLD_OF = ("truncated_archive", "damaged_archive", "no_partner")
"""Errors of a record that say something of the whole file: a person is told of the first."""


class Collector:
    """Collects the items of one source; `new` holds the batches that they became.

    Args:
        manifest: all batches so far; it is not changed.
        problems: what a person should know is appended here.
    """

    def __init__(self, source: Source, manifest: list[Batch], problems: list[str]) -> None:
        self.source = source
        self.manifest = manifest
        self.problems = problems
        self.new: list[Batch] = []
        self.unreadable = 0
        self.traces: dict[str, str] = {}
        """Of a source of traces: trace → digest of the record that it is now."""
        self.has_read = False
        """Was an item read to its end, not only looked at?"""
        self._taken = {batch.batch for batch in manifest}
        self._ordinal = max((batch.ordinal for batch in manifest), default=0)
        self._unused: set[str] | None = None
        self._sample: Sample | None = None
        own = [batch for batch in manifest if batch.source == source.name and source.max_rows is not None]
        self._rows = sum(batch.rows for batch in own if not notes_of(batch.path).reread_of)

    @cached_property
    def held(self) -> Held:
        """How often each record is already held; read only once an item has to be read."""
        batches = [batch for batch in self.manifest if batch.source == self.source.name]
        try:
            if batches:
                self.problems += declared_otherwise(self.source, batches)
            return held_in(batches)
        except FileNotFoundError as error:
            fix = "Bring it back: dvc checkout data/raw.dvc"
            raise DataError("is in the manifest, but not on the disk", where=str(error.filename), fix=fix) from error

    @cached_property
    def _erased(self) -> frozenset[str]:
        return erased_digests()

    def collect(self, name: str, now: Seen, before: Seen | None) -> Seen:
        """Takes what is new in the item; returns it as it was seen.

        Raises:
            SourceError: it cannot be read, or lacks a column.
        """
        if before is not None and now.is_like(before):
            return before
        if self._room() == 0:
            return now
        if self.source.kind == "files" and not is_remote(self.source):
            return self._collect_file(name, now, before)
        with opened(self.source, name, before) as item:
            self._take(name, item)
        return now

    def draw(self, items: dict[str, Seen], seen: dict[str, Seen]) -> None:
        """Chooses which records are taken, where the source samples its `max_rows`; what cannot be read is told later."""
        room = self._room()
        if self.source.sample_seed is None or not room:
            return
        sample = Sample(self.source.sample_seed, room)
        for name, now in items.items():
            before = seen.get(name)
            if before is not None and now.is_like(before):
                continue
            with suppress(SourceError, OSError), opened(self.source, name, before if self._goes_on else None) as item:
                sample.look_at(item.records, self.held)
        self._sample = sample

    @property
    def _goes_on(self) -> bool:
        """Does an item that was read before give what came since alone?"""
        return self.source.kind != "files" or is_remote(self.source)

    def _collect_file(self, name: str, now: Seen, before: Seen | None) -> Seen:
        files = [name, partner_of(name, self.source.parallel)] if self.source.parallel else [name]
        for file in files:
            if not os.path.exists(file):
                raise SourceError("no such file", where=file, fix=f"It belongs beside {name}: put it there")
            require_readable(file)
        with _telling_of(name):
            digests = digests_of(files, now.size, before.size if before else None)
        if before is not None and before.sha256 is not None and digests.whole != before.sha256:
            self.problems += rewritten(self.source, name, now, before, digests.start)
        images = None
        if before is None or digests.whole != before.sha256:
            is_appended = before is not None and before.lines is not None and digests.start == before.sha256
            images = self._take_appended(name, before) if is_appended else None
            if images is None:
                with opened(self.source, name, None) as item:
                    images = self._take(name, item)
        # images may change or come though the file that names them stays: it is then read from its start
        is_missing_images = images is not None and images.faults > 0
        lines = None if images is not None and images.named else digests.lines
        return Seen(now.size, now.mtime_ns, None if is_missing_images else digests.whole, lines)

    def _room(self) -> int | None:
        """How many rows may still be taken; None where there is no bound."""
        if self.source.max_rows is None:
            return None
        return max(self.source.max_rows - self._rows, 0)

    def _writer(self, name: str) -> BatchWriter:
        return BatchWriter(self.source, name, self.held, self._erased)

    def _take(self, name: str, item: Opened) -> ImageKeeper:
        columns = NeededColumns(self.source)
        images = ImageKeeper(self.source, item.read_beside)
        with self._writer(name) as writer, _progress_of(item) as progress:
            rows = 0
            for rows in self._write(_told(name, item.records), writer, columns, images):
                if progress and rows % ROWS_A_STEP == 0:
                    progress.advance(writer.bytes_seen / 1e6 - progress.done)
            columns.check(name)
            if not rows and item.is_whole:
                self.problems.append(f"{name}: holds no records")
            self._finish(writer)
        self.has_read = True
        if images.faults:
            more = "is 1 image" if images.faults == 1 else f"are {images.faults:,} images"
            fix = "put them there, then touch the file"
            self.problems.append(f"{name}: there {more} that could not be had; {fix} ({images.first_fault})")
        return images

    def _take_appended(self, name: str, before: Seen | None) -> ImageKeeper | None:
        """Reads a JSON Lines file from where it ended before; None where it has to be read whole.

        A record counts as held by how often it stands in the whole file. So the part before matters as soon as a record
        below it is one that raw already holds; most are not.
        """
        if format_of(Path(name), self.source) != "jsonl":
            return None
        with opened(self.source, name, before) as item:
            if item.is_whole:
                return None
            columns = NeededColumns(self.source)
            images = ImageKeeper(self.source, item.read_beside)
            with self._writer(name) as writer:
                rows = 0
                for rows in self._write(_told(name, item.records), writer, columns, images):
                    if len(writer.digests) < rows:
                        return None
                if columns.missing() or images.faults:
                    return None
                self._finish(writer)
        return images

    def _write(
        self, records: Iterator[RawRecord], writer: BatchWriter, columns: NeededColumns, images: ImageKeeper
    ) -> Iterator[int]:
        """Writes what is new of the records, up to the source's `max_rows`; yields how many it has seen."""
        room = self._room()
        reported: set[str] = set()
        for rows, found in enumerate(records, start=1):
            if self._sample is not None and not self._sample.is_taken(found):
                columns.look_at(found.record)
                yield rows
                continue
            if found.raw is not None:
                code = (found.error or "").split(":")[0]
                if code in TOLD_OF and code not in reported:
                    reported.add(code)
                    self.problems.append(f"{writer.file}: {found.error}")
            else:
                columns.look_at(found.record)
                if images.is_needed:
                    found = RawRecord(found.line, images.kept(found.record))
                if self.source.kind == "traces":
                    self.traces[found.record[TRACE]] = digest_of(found.record)
            writer.add(found)
            yield rows
            if len(writer.digests) == room:
                if self._sample is None and next(records, None) is not None:
                    more = f"{writer.file}: its first rows were taken, up to `max_rows`; the rest is left"
                    self.problems.append(f"{more} (a sample of all instead: `sample_seed: 0`)")
                return

    def _finish(self, writer: BatchWriter) -> None:
        batch = writer.finish(self._taken, self._ordinal + 1)
        if batch:
            self.new.append(batch)
            self._taken.add(batch.batch)
            self._ordinal = batch.ordinal
            self._rows += batch.rows
            self.unreadable += writer.unreadable
            self._tell_of_unused(writer.unused.fields)

    def _tell_of_unused(self, fields: set[str]) -> None:
        """Once a source: what its earlier batch told already is not told again."""
        if self._unused is None:
            own = [batch for batch in self.manifest if batch.source == self.source.name]
            self._unused = set(notes_of(own[-1].path).unused) if own else set()
        if new := fields - self._unused:
            self.problems.append(note(self.source.name, new))
            self._unused |= new


def _told(name: str, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """The records; what the disk refuses of the source (not of data/raw) is told as the source's error."""
    with _telling_of(name):
        yield from records


@contextmanager
def _telling_of(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise SourceError(what, where=name, fix="See that it is there and whole, then run again") from error


def _progress_of(item: Opened) -> AbstractContextManager[Progress | None]:
    """Progress for a file that takes more than a moment."""
    return track("ingest", item.size / 1e6, "MB") if item.size >= SHOW_PROGRESS_FROM_BYTES else nullcontext()
