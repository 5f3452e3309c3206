"""Which files the sources have, and whether one appeared, vanished or changed: by `stat` alone, nothing heavy imported.

What was seen is kept in .strop/scan.json. Losing it loses nothing: the files are then read again, and what raw already
holds is not added twice.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tasks import paths
from tasks.errors import SourceError
from tasks.files import content_digest, file_digest, write_text
from tasks.ingest.settings import IngestSettings, Source


@dataclass(frozen=True)
class Seen:
    """A file as it was when it was last read."""

    size: int
    mtime_ns: int
    sha256: str | None = None
    """None where it was not read, because its source already has its `max_rows`."""


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
        source: {name: [seen.size, seen.mtime_ns, seen.sha256] for name, seen in of.items()}
        for source, of in state.files.items()
    }
    entry = {"settings": state.settings, "manifest": state.manifest, "is_complete": state.is_complete, "files": files}
    write_text(paths.SCAN, json.dumps(entry))


def settings_digest(settings: IngestSettings) -> str:
    return content_digest(settings.model_dump(mode="json"))


def manifest_digest() -> str:
    """Digest of the manifest's bytes; empty where there is none."""
    return file_digest(paths.MANIFEST) if paths.MANIFEST.is_file() else ""


def find_files(source: Source) -> dict[str, Seen]:
    """The source's files by name, each as `stat` sees it, sorted by name.

    Raises:
        SourceError: no file is there.
    """
    pattern = os.path.expanduser(source.path)
    where = f"source `{source.name}`, path {source.path}"
    # a file whose name holds a bracket is itself, not a pattern
    names = [pattern] if os.path.lexists(pattern) else glob.glob(pattern, recursive=True)
    if names == [pattern] and os.path.isdir(pattern):
        fix = f"Name its files: {Path(pattern).as_posix()}/*.jsonl"
        raise SourceError("is a folder, not a file", where=where, fix=fix)
    found = {}
    for name in sorted(_relative(name) for name in names):
        try:
            status = os.stat(name)
        except OSError:  # vanished since, or a link to nothing
            continue
        if stat.S_ISREG(status.st_mode):
            found[name] = Seen(status.st_size, status.st_mtime_ns)
    if not found:
        fix = "Put the file there, or mend the path in params.yaml (section `ingest`)"
        raise SourceError("no such file", where=where, fix=fix)
    return found


def _relative(name: str) -> str:
    """The name relative to the project where the file lies below it, with forward slashes."""
    path = Path(os.path.abspath(name))
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


def anything_new(settings: IngestSettings) -> bool:
    """Is there a file that the last ingestion did not see as it is now, or a source that it could not read?"""
    state = read_state()
    if not state.is_complete or state.settings != settings_digest(settings) or state.manifest != manifest_digest():
        return True
    for source in settings.sources:
        try:
            found = find_files(source)
        except SourceError:
            return True
        seen = state.files.get(source.name, {})
        if found.keys() != seen.keys():
            return True
        if any((now.size, now.mtime_ns) != (seen[name].size, seen[name].mtime_ns) for name, now in found.items()):
            return True
    return False


def digest_with_start(name: str, start_bytes: int | None) -> tuple[str, str | None]:
    """sha256 of the file, and of its first `start_bytes` (None where it is shorter, or none was asked for)."""
    hasher = hashlib.sha256()
    start: str | None = None
    left = start_bytes
    with open(name, "rb") as file:
        while chunk := file.read(1024 * 1024):
            if left is not None and start is None and len(chunk) >= left:
                head = hasher.copy()
                head.update(chunk[:left])
                start = head.hexdigest()
            elif left is not None and start is None:
                left -= len(chunk)
            hasher.update(chunk)
    return hasher.hexdigest(), start
