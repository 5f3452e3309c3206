"""Checks that data/raw is unchanged, against the manifest and data/raw.dvc.

    require_unchanged(read_manifest())

A file is read only if its size, times or inode differ from those of its last reading: the time of an inode's last change cannot be
set back. The digests are cached in .strop/raw-files.json; without it, everything is read once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import DataError
from tasks.runtime.files import write_text
from tasks.runtime.run_origin import project
from tasks.state.manifest import Batch

FRESH_NANOSECONDS = 50_000_000
"""A file that changed so recently may change again within one tick of the file system's clock: its digests are not cached."""
READ_BYTES = 1024 * 1024

Digests = dict[str, tuple[str, str]]
"""File, relative to data/raw → its md5 and sha256."""


def require_unchanged(batches: Iterable[Batch]) -> None:
    """Checks that data/raw has exactly the batches of the manifest, unchanged, and is the version in data/raw.dvc.

    Raises:
        DataError: a file is missing, has changed, or belongs to no batch.
    """
    if require_intact(batches):
        return
    fix = "If an ingestion was interrupted: python -m tasks ingest. Else restore it: dvc checkout --force data/raw.dvc"
    raise DataError(f"is not the version in {paths.RAW_DVC}", where=str(paths.RAW), fix=fix)


def require_intact(batches: Iterable[Batch], leftovers: Iterable[Path] = ()) -> bool:
    """As `require_unchanged`, but raw rows, and `leftovers` (batches that are not in the manifest yet), may have been added since
    data/raw.dvc was written: returns whether none was."""
    require_no_erasure()
    files = digest_files()
    _require_batches(batches, files, leftovers)
    recorded = recorded_version()
    if recorded is None or version_of(files) == recorded:
        return True
    if (name := _changed_since(recorded, files)) is not None:
        what = f"differs from {paths.RAW_DVC}: it was edited"
        raise DataError(what, where=str(paths.RAW / name), fix=_fix(name))
    return False


def require_no_erasure() -> None:
    """Raises DataError if an erasure of rows was interrupted: only some batches are rewritten then."""
    if paths.ERASING.exists():
        fix = "Finish it: strop rows forget --erase"
        raise DataError("an erasure of rows was interrupted", where=str(paths.ERASING), fix=fix)


def _require_batches(batches: Iterable[Batch], files: Digests, leftovers: Iterable[Path]) -> None:
    """Checks the files against the manifest."""
    named = {paths.MANIFEST.name}
    for batch in batches:
        name = f"{batch.source}/{batch.batch}.parquet"  # faster than a path, for thousands of batches
        named.add(name)
        if name not in files:
            raise DataError("is in the manifest, but not on the disk", where=str(batch.path), fix=_fix(name))
        if files[name][1] != batch.sha256:
            raise DataError("changed since it was collected", where=str(batch.path), fix=_fix(name))
    named |= {path.relative_to(paths.RAW).as_posix() for path in leftovers}
    for name in files:
        if name not in named and name.endswith(".parquet"):
            fix = "Remove it. To add rows, declare a source in params.yaml"
            raise DataError("is not in the manifest", where=str(paths.RAW / name), fix=fix)


def digest_files() -> Digests:
    """The digests of every file in data/raw; unchanged files are not read again."""
    known = _cached()
    files: dict[str, list[Any]] = {}
    fresh: set[str] = set()
    is_read = False
    for name, status in _files(str(paths.RAW), ""):
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        before = known.get(name)
        if before is None or before[:4] != stamp:
            if time.time_ns() - status.st_ctime_ns < FRESH_NANOSECONDS:
                fresh.add(name)
            before = [*stamp, *_digests(paths.RAW / name)]
            is_read = True
        files[name] = before
    if is_read or files.keys() != known.keys():
        write_text(paths.RAW_FILES, json.dumps({name: facts for name, facts in files.items() if name not in fresh}))
    return {name: (facts[4], facts[5]) for name, facts in files.items()}


def version_of(files: Digests) -> str:
    return folder_hash({name: md5 for name, (md5, _) in files.items()})


def folder_hash(files: Mapping[str, str]) -> str:
    """DVC's hash of a folder, from the md5 of each of its files by relative path."""
    listing = [{"md5": md5, "relpath": name} for name, md5 in sorted(files.items())]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def recorded_version() -> str | None:
    """The hash in data/raw.dvc; None if raw rows are not in DVC."""
    try:
        match = re.search(r"\bmd5: ([0-9a-f]{32}\.dir)\b", paths.RAW_DVC.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return match[1] if match else None


def recorded_files(version: str) -> dict[str, str] | None:
    """File → md5 in a version of data/raw, by DVC's local cache; None if it is not cached."""
    try:
        listing = json.loads(_object(version).read_bytes())
        return {entry["relpath"]: entry["md5"] for entry in listing}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _changed_since(recorded: str, files: Digests) -> str | None:
    """A file that differs from the recorded version; None if data/raw only grew, or that version is not in the cache.

    An interrupted ingestion leaves whole batches, and a manifest that begins like the recorded one.
    """
    expected = recorded_files(recorded) or {}
    for name, md5 in expected.items():
        if name != paths.MANIFEST.name and (name not in files or files[name][0] != md5):
            return name
    try:
        before = json.loads(_object(expected[paths.MANIFEST.name]).read_bytes())["batches"]
        now = json.loads(paths.MANIFEST.read_bytes())["batches"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if now[: len(before)] == before else paths.MANIFEST.name


def _fix(name: str) -> str:
    """How to restore a file. An edit in place changes DVC's copy too, which is a hard link to the same file."""
    recorded = recorded_version()
    md5 = (recorded_files(recorded) or {}).get(name) if recorded else None
    copy = _object(md5) if md5 else None
    if copy is not None and copy.exists() and _digests(copy)[0] != md5:
        return f"DVC's copy changed with it: rm {copy}, then dvc pull data/raw.dvc, or restore the file from a backup"
    return "Restore it: dvc checkout --force data/raw.dvc. To correct rows, correct the source"


def _object(digest: str) -> Path:
    return project() / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]


def _files(folder: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """All files but temporary ones."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(entry.path, f"{below}{entry.name}/")
        else:
            try:
                yield f"{below}{entry.name}", entry.stat()
            except FileNotFoundError:  # a dangling link
                continue


def _digests(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
    return md5.hexdigest(), sha256.hexdigest()


def _cached() -> dict[str, list[Any]]:
    try:
        cache = json.loads(paths.RAW_FILES.read_text(encoding="utf-8"))
        return {name: facts for name, facts in cache.items() if len(facts) == 6}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
