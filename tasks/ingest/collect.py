"""One source's files, one after another: what is new in each becomes a batch."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

from tasks.errors import DataError, SourceError
from tasks.files import canonical_json
from tasks.ingest.batches import BatchWriter, declared_of, known_digests
from tasks.ingest.lines import RawRecord
from tasks.ingest.readers import REQUIRED_FIELDS, format_of, read_records
from tasks.ingest.scan import Seen, digest_with_start
from tasks.ingest.settings import Source
from tasks.manifest import Batch
from tasks.progress import Progress, track

ROWS_A_STEP = 2_000
SHOW_PROGRESS_FROM_BYTES = 20_000_000


class Collector:
    """Collects the files of one source; `new` holds the batches that they became.

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

    @cached_property
    def known(self) -> Counter[str]:
        """How often each record is already held; read only once a file has to be read."""
        batches = [batch for batch in self.manifest if batch.source == self.source.name]
        try:
            if batches:
                self._tell_of_another_declaration(batches)
            return known_digests(batches)
        except FileNotFoundError as error:
            fix = "Bring it back: dvc checkout data/raw.dvc"
            raise DataError("is in the manifest, but not on the disk", where=str(error.filename), fix=fix) from error

    def collect(self, name: str, now: Seen, before: Seen | None) -> Seen:
        """Takes what is new in the file; returns it as it was seen.

        Raises:
            SourceError: the file cannot be read, or lacks a column.
        """
        if before is not None and (now.size, now.mtime_ns) == (before.size, before.mtime_ns):
            return before
        if self._room() == 0:
            return now
        if not os.access(name, os.R_OK):
            raise SourceError("may not be read", where=name, fix=f"Mend its permissions: chmod u+r {name}")
        digest, start = digest_with_start(name, before.size if before else None)
        if before is not None and before.sha256 is not None and digest != before.sha256:
            self._tell_of_a_rewrite(name, now, before, start)
        if before is None or digest != before.sha256:
            self._read(name)
        return Seen(now.size, now.mtime_ns, digest)

    def _room(self) -> int | None:
        """How many rows may still be taken; None where there is no bound."""
        if self.source.max_rows is None:
            return None
        held = sum(batch.rows for batch in (*self.manifest, *self.new) if batch.source == self.source.name)
        return max(self.source.max_rows - held, 0)

    def _read(self, name: str) -> None:
        columns = _Columns(self.source)
        room = self._room()
        rows = added = 0
        with BatchWriter(self.source, name, self.known) as writer, _progress_of(name) as progress:
            try:
                for rows, found in enumerate(read_records(Path(name), self.source), start=1):
                    columns.look_at(found)
                    added += writer.add(found)
                    if progress and rows % ROWS_A_STEP == 0:
                        progress.advance(writer.bytes_seen / 1e6 - progress.done)
                    if added == room:
                        break
            except UnicodeDecodeError as error:
                what = f"cannot be read as {error.encoding} ({error.reason} at byte {error.start + 1})"
                fix = f"Say its encoding in source `{self.source.name}`"
                raise SourceError(what, where=name, fix=fix) from error
            columns.check(name)
            if not rows:
                self.problems.append(f"{name}: holds no records")
            batch = writer.finish([*self.manifest, *self.new])
        if batch:
            self.new.append(batch)
            self.unreadable += writer.unreadable

    def _tell_of_a_rewrite(self, name: str, now: Seen, before: Seen, start: str | None) -> None:
        if now.size < before.size:
            self.problems.append(
                f"{name}: shrank from {before.size:,} to {now.size:,} bytes; the rows that it held before are kept"
            )
        elif start != before.sha256 and format_of(Path(name), self.source) in ("jsonl", "csv"):
            self.problems.append(f"{name}: was rewritten, not only appended to; the rows that it held before are kept")

    def _tell_of_another_declaration(self, batches: list[Batch]) -> None:
        source = self.source
        now = (source.shape, source.family, source.language, canonical_json(dict(source.columns)))
        then = declared_of(batches[-1])
        if now == then:
            return
        names = ("shape", "family", "language", "columns")
        pairs = zip(names, then, now, strict=True)
        changed = ", ".join(f"{name} {old} → {new}" for name, old, new in pairs if old != new)
        self.problems.append(
            f"source `{source.name}` is declared otherwise than when its rows came ({changed}). Those rows stay as they"
            f" were; to collect them anew, rename the source and exclude its old batches: strop data exclude BATCH"
        )


def _progress_of(name: str) -> AbstractContextManager[Progress | None]:
    """Progress for a file that takes more than a moment."""
    size = os.path.getsize(name)
    return track("ingest", size / 1e6, "MB") if size >= SHOW_PROGRESS_FROM_BYTES else nullcontext()


class _Columns:
    """The columns that a file's records have, against those that the source needs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.columns: dict[str, None] = {}
        self.records = 0

    def look_at(self, found: RawRecord) -> None:
        if isinstance(found.record, dict):
            self.records += 1
            self.columns.update(dict.fromkeys(found.record))

    def check(self, name: str) -> None:
        """Raises SourceError where a column that is needed, or mapped, is in no record of the file."""
        if not self.records:
            return
        within = ("from", "value", "role", "content") if self.source.shape in ("sharegpt", "messages") else ()
        needed = {field: field for field in REQUIRED_FIELDS[self.source.shape]}
        needed |= {field: column for field, column in self.source.columns.items() if field not in within}
        missing = [(field, column) for field, column in needed.items() if column not in self.columns]
        if not missing:
            return
        field, column = missing[0]
        there = list(self.columns)
        near = difflib.get_close_matches(column, there, n=1, cutoff=0.5)
        shown = ", ".join(f"`{each}`" for each in there[:20]) + (", ..." if len(there) > 20 else "")
        hint = f"Did you mean `{near[0]}`? " if near else ""
        mapping = f"{{{field}: {near[0] if near else 'COLUMN'}}}"
        raise SourceError(
            f"no record has a column `{column}`; there are {shown}",
            where=f"source `{self.source.name}`, {name}",
            fix=f"{hint}Say where it is found: columns: {mapping}",
        )
