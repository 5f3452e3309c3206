"""All sources → new raw batches and the manifest. What is already there is never added twice, and never lost.

A batch's file comes first and the manifest last: a crash leaves the old manifest or the new one, and at most whole
batches that no manifest names, which the next run takes up. A source that cannot be read keeps no other from being read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasks import paths
from tasks.errors import DataError, SourceError
from tasks.ingest.changes.scan import ScanState, anything_new, list_items, manifest_digest, read_state, settings_digest
from tasks.ingest.changes.scan import write_state as _write_state
from tasks.ingest.connectors.listing import Listing, Seen
from tasks.ingest.secrets import without_secrets
from tasks.ingest.settings import IngestSettings, Source
from tasks.records.raw_notes import notes_of
from tasks.runtime.plurals import count_of
from tasks.state.decisions import excluded_batches, read_decisions
from tasks.state.manifest import Batch, read_manifest, write_manifest

__all__ = ["IngestResult", "SourceResult", "anything_new", "ingest_sources"]


@dataclass
class SourceResult:
    """What one source brought."""

    name: str
    files: int = 0
    batches: int = 0
    new_rows: int = 0
    unreadable: int = 0
    """How many of the new rows did not parse (they are kept, and refused by `validate`)."""
    held_rows: int = 0
    """Rows of the source that raw holds now."""

    def told(self) -> str:
        """One line for a person."""
        if not self.new_rows:
            return f"{self.name}: nothing new ({self.held_rows:,} rows held)"
        batches = count_of(self.batches, "batch", "batches")
        unreadable = f", {self.unreadable:,} of them unreadable" if self.unreadable else ""
        return f"{self.name}: {self.new_rows:,} new rows in {batches}{unreadable} ({self.held_rows:,} rows held)"


@dataclass
class IngestResult:
    new: list[Batch] = field(default_factory=list)
    """The batches that came, in order."""
    problems: list[str] = field(default_factory=list)
    """What a person should know, though it stops nothing: an empty file, a file that was rewritten."""
    errors: list[SourceError] = field(default_factory=list)
    """Sources and files that could not be read; the others were."""
    sources: list[SourceResult] = field(default_factory=list)
    rows: int = 0
    """Rows that raw holds now, of all sources."""

    @property
    def changed(self) -> bool:
        """Is data/raw another than before?"""
        return bool(self.new)

    def raise_errors(self) -> None:
        """Raises what could not be read, all of it at once.

        Raises:
            SourceError: at least one source or file could not be read, or there are no rows at all.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            lines = "".join(f"\n  {error}" for error in self.errors)
            raise SourceError(f"{len(self.errors)} sources or files could not be read; the others were:{lines}\n")
        if not self.sources and not self.rows:
            fix = "Declare one: docs/settings.md shows how, recipes/ has examples"
            raise SourceError("declares no source", where="params.yaml, section `ingest`", fix=fix)
        if not self.rows:
            told = "; ".join(self.problems) or "every file is empty"
            raise SourceError(
                f"the sources hold no rows at all ({told})", fix="Put records into the files, then run again"
            )


def ingest_sources(settings: IngestSettings) -> IngestResult:
    """Reads what is new, and writes it as batches. Errors of sources are in the result: `raise_errors()` tells them.

    Raises:
        DataError: data/raw is not what its manifest says, or is not here though data/raw.dvc is.
    """
    with alone():
        return _ingest(settings)


def require_raw() -> None:
    """Raises DataError where data/raw.dvc exists without its data."""
    if paths.RAW_DVC.exists() and not paths.MANIFEST.exists():
        fix = "Bring it back: dvc checkout data/raw.dvc (or dvc pull data/raw.dvc)"
        raise DataError("names raw data that is not here", where=str(paths.RAW_DVC), fix=fix)


def _ingest(settings: IngestSettings) -> IngestResult:
    require_raw()
    manifest = read_manifest()
    result = IngestResult()
    _take_up_leftovers(manifest, result)
    before = read_state()
    if before.manifest != manifest_digest():  # raw is not what those files were read into: read them all again
        before = ScanState()
    digest = settings_digest(settings)
    after = ScanState(settings=digest, is_complete=True)
    for source in settings.sources:
        # with other settings, a file that did not change may yield other rows
        seen = before.files.get(source.name, {}) if before.settings == digest else {}
        _ingest_source(source, manifest, seen, result, after)
    after.is_complete = not result.errors
    after.manifest = manifest_digest()
    _write_state(after)
    result.rows = sum(batch.rows for batch in manifest)
    return result


def _ingest_source(
    source: Source,
    manifest: list[Batch],
    seen: dict[str, Seen],
    result: IngestResult,
    after: ScanState,
) -> None:
    from tasks.ingest.collect import Collector
    from tasks.ingest.connectors.corrections import settle

    told = SourceResult(source.name)
    result.sources.append(told)
    try:
        listing = list_items(source)
    except SourceError as error:
        result.errors.append(error)
        listing = Listing()
    result.problems.extend(listing.left)
    # a file that is being written is remembered as it was when it was read
    after.files[source.name] = {name: seen[name] for name in sorted(listing.waiting & seen.keys())}
    collector = Collector(source, manifest, result.problems)
    collector.draw(listing.found, seen)
    for name, now in listing.found.items():
        try:
            after.files[source.name][name] = collector.collect(name, now, seen.get(name))
        except SourceError as error:
            result.errors.append(without_secrets(error, source.model_dump()))
    told.files = len(listing.found)
    told.batches = len(collector.new)
    told.new_rows = sum(batch.rows for batch in collector.new)
    told.unreadable = collector.unreadable
    if collector.new:
        manifest.extend(collector.new)
        write_manifest(manifest)
        result.new.extend(collector.new)
    if source.kind == "traces" and collector.has_read:
        own = [batch for batch in manifest if batch.source == source.name]
        result.problems += settle(source.name, own, collector.traces, listing.withdrawn)
    own = [batch for batch in manifest if batch.source == source.name]
    is_reread = bool(
        excluded_batches(read_decisions()) & {batch.batch for batch in own}
    )  # else no file need be looked at
    told.held_rows = sum(batch.rows for batch in own if not (is_reread and notes_of(batch.path).reread_of))


def _take_up_leftovers(manifest: list[Batch], result: IngestResult) -> None:
    """Enters whole batches that a crash kept out of the manifest, and removes half-written files."""
    from tasks.ingest.batches import leftover_batches, remove_half_written

    remove_half_written()
    if taken := leftover_batches(manifest):
        manifest.extend(taken)
        write_manifest(manifest)
        result.new.extend(taken)
        result.problems.append(f"took up {len(taken)} batches that an interrupted run had left in {paths.RAW}")


@contextmanager
def alone() -> Iterator[None]:
    """One ingestion at a time in a project: two would write one manifest."""
    from filelock import FileLock, Timeout

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.LOCKS / "ingest.lock")
    try:
        lock.acquire(timeout=10)
    except Timeout as error:
        fix = "Wait for it to end, then run again"
        raise SourceError("another ingestion is at work in this project", where=str(paths.RAW), fix=fix) from error
    try:
        yield
    finally:
        lock.release()
