"""Folders that hold a list of their files: size, time, inode and digest of each, written last. Damage is found before use.

For what is kept to be used again: checkpoints, and caches whose files are hard links of outputs, which people may edit in place.

    seal(folder)                 # at its end, before it is moved to its place
    if is_whole(folder): …       # reads only files whose time or inode changed: there may be thousands of folders
    damage = damage_of(folder)   # reads every file: a bit that the disk flipped is found, too
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tasks.runtime.files import file_digest, write_json

SEAL = "complete"
"""The list's file: a folder without one was not finished."""


def seal(folder: Path) -> None:
    """Writes the list of all files below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    write_json(
        folder / SEAL,
        {path.relative_to(folder).as_posix(): [*_mark(str(path)), file_digest(path)] for path in files},
    )


def is_whole(folder: Path) -> bool:
    """Whether each listed file is the one that was sealed."""
    return not damage_of(folder, trusts_times=True)


def damage_of(folder: Path, *, trusts_times: bool = False) -> str:
    """What is not as it was when the folder was sealed, in a few words; "" where all is.

    Args:
        trusts_times: a file of the same size, time and inode is not read, and files that are not listed are not looked for.
    """
    try:
        listed = json.loads(_read(f"{folder}/{SEAL}"))
        known = {str(name): ([int(part) for part in mark], str(digest)) for name, (*mark, digest) in listed.items()}
    except FileNotFoundError:
        return "it was not finished"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return f"its list of files ({SEAL}) cannot be read"
    for name, (mark, digest) in sorted(known.items()):
        try:
            now = _mark(f"{folder}/{name}")
        except OSError:
            return f"{name} is missing"
        if now[0] != mark[0]:
            return f"{name} has {now[0]:,} of {mark[0]:,} bytes"
        if not (trusts_times and now == mark) and file_digest(folder / name) != digest:
            return f"{name} has changed since it was written"
    if trusts_times:
        return ""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SEAL}
    return f"{min(there - known.keys())} does not belong to it" if there - known.keys() else ""


def _read(path: str) -> bytes:
    """A small file; `open` takes three times as long, and there may be thousands."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)


def _mark(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ino]
