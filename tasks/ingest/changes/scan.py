"""What the sources hold, and whether something appeared, vanished or changed: by `stat`, etag or watermark alone.

For files on this machine nothing heavy is imported; the other kinds need their library.

What was seen is kept in .strop/scan.json. Losing it loses nothing: the files are then read again, and what raw already
holds is not added twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from tasks import paths
from tasks.errors import SourceError
from tasks.ingest.connectors.listing import Listing, Seen
from tasks.ingest.connectors.local import list_files
from tasks.ingest.secrets import without_secrets
from tasks.ingest.settings import IngestSettings, Source
from tasks.runtime.files import content_digest, file_digest, write_text


@dataclass
class ScanState:
    settings: str = ""
    """Digest of the sources' settings."""
    manifest: str = ""
    """Digest of the manifest that these files were read into."""
    is_complete: bool = False
    """False where a source could not be read: it is then tried, and told, again."""
    files: dict[str, dict[str, Seen]] = field(default_factory=dict)
    """Source → file → as it was seen."""


def read_state() -> ScanState:
    """What the last ingestion saw; nothing where the file is missing or unreadable."""
    try:
        entry = json.loads(paths.SCAN.read_text(encoding="utf-8"))
        files = {source: {name: Seen(*seen) for name, seen in of.items()} for source, of in entry["files"].items()}
        return ScanState(entry["settings"], entry["manifest"], entry["is_complete"], files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ScanState()


def write_state(state: ScanState) -> None:
    files = {
        source: {name: [seen.size, seen.mtime_ns, seen.sha256, seen.lines, seen.stamp] for name, seen in of.items()}
        for source, of in state.files.items()
    }
    entry = {"settings": state.settings, "manifest": state.manifest, "is_complete": state.is_complete, "files": files}
    write_text(paths.SCAN, json.dumps(entry))


def settings_digest(settings: IngestSettings) -> str:
    return content_digest(settings.model_dump(mode="json"))


def manifest_digest() -> str:
    """Digest of the manifest's bytes; empty where there is none."""
    return file_digest(paths.MANIFEST) if paths.MANIFEST.is_file() else ""


def list_items(source: Source) -> Listing:
    """What the source holds now, without reading it.

    Raises:
        SourceError: nothing is there, or it cannot be reached.
    """
    try:
        return _list(source)
    except SourceError as error:
        raise without_secrets(error, source.model_dump()) from error


def _list(source: Source) -> Listing:
    if source.kind == "hub":
        from tasks.ingest.connectors.hub import list_splits

        return list_splits(source)
    if source.kind == "sql":
        from tasks.ingest.connectors.sql import list_table

        return list_table(source)
    if source.kind == "traces":
        from tasks.ingest.connectors.traces import list_traces

        return list_traces(source)
    if is_remote(source):
        from tasks.ingest.connectors.remote import list_objects

        return list_objects(source)
    return list_files(source)


def is_remote(source: Source) -> bool:
    """Does the source lie behind a URL?"""
    return source.kind == "files" and "://" in (source.path or "")


def find_files(source: Source) -> dict[str, Seen]:
    """The source's items by name, each as it is now.

    Raises:
        SourceError: nothing is there, or it cannot be reached.
    """
    return list_items(source).found


def anything_new(settings: IngestSettings) -> bool:
    """Is there a file that the last ingestion did not see as it is now, or a source that it could not read?"""
    state = read_state()
    if not state.is_complete or state.settings != settings_digest(settings) or state.manifest != manifest_digest():
        return True
    for source in settings.sources:
        try:
            listing = list_items(source)
        except SourceError:
            return True
        seen = state.files.get(source.name, {})
        if listing.found.keys() != seen.keys() - listing.waiting:
            return True
        if any(not now.is_like(seen[name]) for name, now in listing.found.items()):
            return True
    return False


@dataclass(frozen=True)
class Digests:
    """What a pass over a file's bytes tells."""

    whole: str
    """sha256."""
    start: str | None
    """sha256 of its first bytes, as many as it had before; None where it is shorter, or that was not asked for."""
    lines: int | None
    """Line feeds, where the last byte is one; else None."""


def digests_of(names: list[str], size: int, start_bytes: int | None) -> Digests:
    """Digests of the first `size` bytes of some files, one after another: what is appended meanwhile is for the next run."""
    hasher = hashlib.sha256()
    start: str | None = None
    done = lines = 0
    last = b""
    for name in names:
        with open(name, "rb") as file:
            while done < size and (chunk := file.read(min(1024 * 1024, size - done))):
                if start_bytes is not None and start is None and done + len(chunk) >= start_bytes:
                    head = hasher.copy()
                    head.update(chunk[: start_bytes - done])
                    start = head.hexdigest()
                hasher.update(chunk)
                done += len(chunk)
                lines += chunk.count(b"\n")
                last = chunk[-1:]
    return Digests(hasher.hexdigest(), start, lines if last == b"\n" else None)
