"""All sources → new raw batches and the manifest. Records in raw are never added twice, and never lost.

Batches are written first and the manifest last: a crash leaves the old manifest or the new one, and at most whole batches that
are not in it, which the next run adds. If a source cannot be read, the others are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasks import paths
from tasks.errors import DataError, SourceError
from tasks.ingest.changes.scan import ScanState, manifest_digest, read_state, settings_digest, write_state
from tasks.ingest.connectors.connect import list_items
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.secrets import without_secrets
from tasks.ingest.settings import IngestSettings, Source
from tasks.records.raw_notes import notes_of
from tasks.runtime.plurals import count_of
from tasks.state.decisions import excluded_batches, read_decisions
from tasks.state.manifest import Batch, read_manifest, write_manifest


@dataclass
class SourceResult:
    """What was collected from one source."""

    name: str
    files: int = 0
    batches: int = 0
    new_rows: int = 0
    unreadable: int = 0
    """New rows that could not be parsed; they are stored, and refused by `validate`."""
    total_rows: int = 0
    """Rows of the source that are in raw now."""

    def summary(self) -> str:
        """One line for the log."""
        if not self.new_rows:
            return f"{self.name}: nothing new ({self.total_rows:,} rows in total)"
        batches = count_of(self.batches, "batch", "batches")
        unreadable = f", {self.unreadable:,} of them unreadable" if self.unreadable else ""
        return f"{self.name}: {self.new_rows:,} new rows in {batches}{unreadable} ({self.total_rows:,} rows in total)"


@dataclass
class IngestResult:
    new: list[Batch] = field(default_factory=list)
    """The new batches, in order."""
    problems: list[str] = field(default_factory=list)
    """Messages about what does not stop the ingestion: an empty file, a file that was rewritten."""
    errors: list[SourceError] = field(default_factory=list)
    """Sources and files that could not be read."""
    sources: list[SourceResult] = field(default_factory=list)
    rows: int = 0
    """Rows of all sources that are in raw now."""

    @property
    def changed(self) -> bool:
        """Whether data/raw has changed."""
        return bool(self.new)

    def raise_errors(self) -> None:
        """Raises all errors at once.

        Raises:
            SourceError: a source or file could not be read, or there are no rows at all.
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
            reasons = "; ".join(self.problems) or "every file is empty"
            what = f"the sources contain no rows ({reasons})"
            raise SourceError(what, fix="Put records into the files, then run again")


def ingest_sources(settings: IngestSettings) -> IngestResult:
    """Writes new records as batches. Errors of sources are in the result: `raise_errors()` raises them.

    Raises:
        DataError: data/raw differs from its manifest, or is missing although data/raw.dvc exists.
    """
    with ingest_lock():
        return _ingest(settings)


def require_raw() -> None:
    """Raises DataError where data/raw.dvc exists without its data."""
    if paths.RAW_DVC.exists() and not paths.MANIFEST.exists():
        fix = "Restore it: dvc checkout data/raw.dvc (or dvc pull data/raw.dvc)"
        raise DataError("refers to raw data that is not on the disk", where=str(paths.RAW_DVC), fix=fix)


def _ingest(settings: IngestSettings) -> IngestResult:
    require_raw()
    manifest = read_manifest()
    result = IngestResult()
    _add_leftovers(manifest, result)
    before = read_state()
    if before.manifest != manifest_digest():  # raw has changed since: read everything again
        before = ScanState()
    digest = settings_digest(settings)
    after = ScanState(settings=digest, is_complete=True)
    for source in settings.sources:
        # with other settings, an unchanged file may yield other rows
        states = before.files.get(source.name, {}) if before.settings == digest else {}
        _ingest_source(source, manifest, states, result, after)
    after.is_complete = not result.errors
    after.manifest = manifest_digest()
    write_state(after)
    result.rows = sum(batch.rows for batch in manifest)
    return result


def _ingest_source(
    source: Source,
    manifest: list[Batch],
    states: dict[str, ItemState],
    result: IngestResult,
    after: ScanState,
) -> None:
    from tasks.ingest.collect import Collector
    from tasks.ingest.connectors.corrections import apply_corrections

    own_result = SourceResult(source.name)
    result.sources.append(own_result)
    try:
        listing = list_items(source)
    except SourceError as error:
        result.errors.append(error)
        listing = Listing()
    result.problems.extend(listing.notes)
    # the state of a file that may still be written is that of its last reading
    after.files[source.name] = {name: states[name] for name in sorted(listing.unsettled & states.keys())}
    collector = Collector(source, manifest, result.problems)
    collector.draw_sample(listing.items, states)
    for name, now in listing.items.items():
        try:
            after.files[source.name][name] = collector.collect(name, now, states.get(name))
        except SourceError as error:
            result.errors.append(without_secrets(error, source.model_dump()))
    own_result.files = len(listing.items)
    own_result.batches = len(collector.new)
    own_result.new_rows = sum(batch.rows for batch in collector.new)
    own_result.unreadable = collector.unreadable
    if collector.new:
        manifest.extend(collector.new)
        write_manifest(manifest)
        result.new.extend(collector.new)
    own = [batch for batch in manifest if batch.source == source.name]
    if (key := collector.connector.record_key) is not None and collector.has_read:
        result.problems += apply_corrections(source.name, key, own, collector.current, listing.withdrawn)
    # without an excluded batch none was read again, and no file has to be opened
    is_reread = bool(excluded_batches(read_decisions()) & {batch.batch for batch in own})
    own_result.total_rows = sum(batch.rows for batch in own if not (is_reread and notes_of(batch.path).reread_of))


def _add_leftovers(manifest: list[Batch], result: IngestResult) -> None:
    """Adds whole batches that an interrupted run left out of the manifest, and removes half-written files."""
    from tasks.ingest.batches import leftover_batches, remove_half_written

    remove_half_written()
    if leftovers := leftover_batches(manifest):
        manifest.extend(leftovers)
        write_manifest(manifest)
        result.new.extend(leftovers)
        result.problems.append(f"added {len(leftovers)} batches that an interrupted run had left in {paths.RAW}")


@contextmanager
def ingest_lock() -> Iterator[None]:
    """One ingestion at a time in a project: two would write one manifest."""
    from filelock import FileLock, Timeout

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.LOCKS / "ingest.lock")
    try:
        lock.acquire(timeout=10)
    except Timeout as error:
        fix = "Wait for it to end, then run again"
        raise SourceError("another ingestion runs in this project", where=str(paths.RAW), fix=fix) from error
    try:
        yield
    finally:
        lock.release()
