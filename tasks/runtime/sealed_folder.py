"""Folders with a list of their files (size, mtime, inode and digest), written last. Damage is detected before use.

For files that are reused: checkpoints, and caches whose files are hard links of outputs, which users may edit in place.

    seal(folder)                 # when it is complete, before it is moved to its path
    if is_whole(folder): …       # reads only files whose mtime or inode changed: there may be thousands of folders
    damage = damage_of(folder)   # reads every file: also detects a flipped bit on the disk
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.runtime.files import file_digest, files_below, new_folder, write_json

SEAL = "complete"
"""The file with the list: a folder without it is incomplete."""


def seal(folder: Path) -> None:
    """Writes the list of all files below the folder."""
    files = {name: path for name, path in files_below(folder).items() if path.name != SEAL}
    write_json(folder / SEAL, {name: [*_stat(str(path)), file_digest(path)] for name, path in files.items()})


@contextmanager
def sealed_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder`, sealed, if the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_folder(folder.parent, ".writing-")
    try:
        yield temporary
        seal(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def oldest_unused(paths: Iterable[Path], used: set[str], kept: int) -> list[Path]:
    """Of the paths whose names are not in use, all but the `kept` newest, which a decision of a user may need again."""
    unused = [path for path in paths if path.name not in used]
    return sorted(unused, key=lambda path: path.stat().st_mtime, reverse=True)[kept:]


def is_whole(folder: Path) -> bool:
    """Whether every listed file is unchanged."""
    return not damage_of(folder, trusts_times=True)


def damage_of(folder: Path, *, trusts_times: bool = False) -> str:
    """What changed since the folder was sealed, in a few words; "" if nothing changed.

    Args:
        trusts_times: do not read files with the same size, mtime and inode, and do not check for additional files.
    """
    try:
        listed = json.loads(_read(f"{folder}/{SEAL}"))
        known = {
            str(name): ([int(part) for part in expected], str(digest)) for name, (*expected, digest) in listed.items()
        }
    except FileNotFoundError:
        return "it is incomplete"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return f"its list of files ({SEAL}) cannot be read"
    for name, (expected, digest) in sorted(known.items()):
        try:
            current = _stat(f"{folder}/{name}")
        except OSError:
            return f"{name} is missing"
        if current[0] != expected[0]:
            return f"{name} has {current[0]:,} of {expected[0]:,} bytes"
        if not (trusts_times and current == expected) and file_digest(folder / name) != digest:
            return f"{name} has changed since it was written"
    if trusts_times:
        return ""
    others = files_below(folder).keys() - known.keys() - {SEAL}
    return f"{min(others)} does not belong to it" if others else ""


def _read(path: str) -> bytes:
    """Reads a small file; `open` takes three times as long, and there may be thousands of files."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)


def _stat(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ino]
