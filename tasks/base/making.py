"""A folder in .strop/bases while it is being made: by one process at a time, and gone if it is not moved to its place.

That of a process that was killed goes when the next one begins.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks import paths
from tasks.files import new_folder

PREFIX = "tmp"
"""No digest begins so."""


@contextlib.contextmanager
def making_folder() -> Iterator[Path]:
    """An empty folder beside the bases, locked against another process that makes one."""
    from filelock import FileLock

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    paths.BASES.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.LOCKS / "base.lock"):
        for left in paths.BASES.glob(f"{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = new_folder(paths.BASES, PREFIX)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
