"""Are the bytes in data/raw those that were collected? The manifest and data/raw.dvc say what they should be.

    require_unchanged(read_manifest())

Files are looked at by `stat`, and read where size, times or inode are others than when they were read last: the time of the last
change of an inode cannot be set back. What was seen is kept in .strop/raw-files.json; without it, everything is read once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import DataError
from tasks.runtime.files import write_text
from tasks.runtime.run_origin import project
from tasks.state.manifest import Batch

FRESH_NANOSECONDS = 50_000_000
"""A file that changed so short a time ago may change again within one tick of the file system's clock: it is not remembered."""
READ_BYTES = 1024 * 1024

Seen = dict[str, tuple[str, str]]
"""File, relative to data/raw → its md5 and its sha256."""


def require_unchanged(batches: Iterable[Batch]) -> None:
    """Before rows are read: every batch is what was collected, nothing else is there, and DVC knows it all.

    Raises:
        DataError: a file is missing, has changed, or belongs to no batch; the line names it.
    """
    require_no_erasure()
    seen = look()
    require_batches(batches, seen)
    recorded = recorded_version()
    if recorded is None or version_of(seen) == recorded:
        return
    if (name := changed_since(recorded, seen)) is not None:
        raise changed_file(name)
    fix = (
        "If an ingestion was interrupted: python -m tasks ingest. Else bring it back: dvc checkout --force data/raw.dvc"
    )
    raise DataError(f"is not what {paths.RAW_DVC} names", where=str(paths.RAW), fix=fix)


def require_no_erasure() -> None:
    """Raises DataError where an erasure of rows was cut short: some batches are rewritten then, and others are not."""
    if paths.ERASING.exists():
        fix = "Do the rest: strop rows forget --erase"
        raise DataError("an erasure of rows was cut short", where=str(paths.ERASING), fix=fix)


def require_batches(batches: Iterable[Batch], seen: Seen, but: Iterable[Path] = ()) -> None:
    """As `require_unchanged`, by the manifest alone.

    Args:
        but: files that belong to no batch yet.
    """
    named = {paths.MANIFEST.name}
    for batch in batches:
        name = f"{batch.source}/{batch.batch}.parquet"  # as its path: thousands of those would take long
        named.add(name)
        if name not in seen:
            raise DataError("is in the manifest, but not on the disk", where=str(batch.path), fix=_fix(name))
        if seen[name][1] != batch.sha256:
            raise DataError("changed since it was collected", where=str(batch.path), fix=_fix(name))
    named |= {path.relative_to(paths.RAW).as_posix() for path in but}
    for name in seen:
        if name not in named and name.endswith(".parquet"):
            fix = "Remove it. Rows come in by a source: declare one in params.yaml"
            raise DataError("no manifest names it", where=str(paths.RAW / name), fix=fix)


def look() -> Seen:
    """Every file in data/raw; what did not change since it was read last is not read again."""
    known = _remembered()
    found: dict[str, list[Any]] = {}
    fresh: set[str] = set()
    is_read = False
    for name, status in _files(str(paths.RAW), ""):
        mark = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        before = known.get(name)
        if before is None or before[:4] != mark:
            if time.time_ns() - status.st_ctime_ns < FRESH_NANOSECONDS:
                fresh.add(name)
            before = [*mark, *_digests(paths.RAW / name)]
            is_read = True
        found[name] = before
    if is_read or found.keys() != known.keys():
        write_text(paths.RAW_FILES, json.dumps({name: facts for name, facts in found.items() if name not in fresh}))
    return {name: (facts[4], facts[5]) for name, facts in found.items()}


def version_of(seen: Seen) -> str:
    """The hash that DVC gives the folder."""
    listing = [{"md5": seen[name][0], "relpath": name} for name in sorted(seen)]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def recorded_version() -> str | None:
    """The hash in data/raw.dvc; None where raw rows are not under DVC."""
    try:
        found = re.search(r"\bmd5: ([0-9a-f]{32}\.dir)\b", paths.RAW_DVC.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found[1] if found else None


def recorded_files(version: str) -> dict[str, str] | None:
    """File → md5 in a version of data/raw, by DVC's local cache; None where it is not there."""
    try:
        listing = json.loads(_object(version).read_bytes())
        return {entry["relpath"]: entry["md5"] for entry in listing}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def changed_since(recorded: str, seen: Seen) -> str | None:
    """A file that is not what the recorded version holds; None where data/raw only grew since, or that version is not in the cache.

    An ingestion that was interrupted leaves whole batches, and a manifest that begins as the recorded one does.
    """
    files = recorded_files(recorded) or {}
    for name, md5 in files.items():
        if name != paths.MANIFEST.name and (name not in seen or seen[name][0] != md5):
            return name
    try:
        before = json.loads(_object(files[paths.MANIFEST.name]).read_bytes())["batches"]
        now = json.loads(paths.MANIFEST.read_bytes())["batches"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if now[: len(before)] == before else paths.MANIFEST.name


def changed_file(name: str) -> DataError:
    """What is wrong with a file that is not what data/raw.dvc names."""
    what = f"is not what {paths.RAW_DVC} names: it was changed by hand"
    return DataError(what, where=str(paths.RAW / name), fix=_fix(name))


def _fix(name: str) -> str:
    """How to get a file back. An edit in place changed DVC's copy too, which is the same file by another name."""
    recorded = recorded_version()
    md5 = (recorded_files(recorded) or {}).get(name) if recorded else None
    copy = _object(md5) if md5 else None
    if copy is not None and copy.exists() and _digests(copy)[0] != md5:
        return f"DVC's copy changed with it: rm {copy}, then dvc pull data/raw.dvc, or put the file back from a backup"
    return "Bring it back: dvc checkout --force data/raw.dvc. To correct rows, correct the source"


def _object(digest: str) -> Path:
    return project() / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]


def _files(folder: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file, without those that are being written."""
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
            except FileNotFoundError:  # a link that leads nowhere
                continue


def _digests(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
    return md5.hexdigest(), sha256.hexdigest()


def _remembered() -> dict[str, list[Any]]:
    try:
        found = json.loads(paths.RAW_FILES.read_text(encoding="utf-8"))
        return {name: facts for name, facts in found.items() if len(facts) == 6}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
