"""A folder of a cache that is as it was when it was made: its files are hard links of outputs, which people may edit in place.

seal(folder)            # at its end, before it is moved to its place
if is_whole(folder): …
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tasks.files import file_digest

SEAL = "seal.json"


def seal(folder: Path) -> None:
    """Notes size, time, inode and digest of each file in the folder."""
    files = {
        path.name: [*_mark(str(path)), file_digest(path)] for path in sorted(folder.iterdir()) if path.name != SEAL
    }
    (folder / SEAL).write_text(json.dumps(files), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether each file is the one that was sealed. One of another time or inode is read."""
    try:
        for name, (*mark, digest) in json.loads(_read(f"{folder}/{SEAL}")).items():
            path = f"{folder}/{name}"
            if _mark(path) != mark and file_digest(Path(path)) != digest:
                return False
    except (OSError, ValueError, TypeError, AttributeError):
        return False
    return True


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
