"""A folder among the bases while it is being made: by one process at a time, and gone if it is not moved to its place.

That of a process that was killed goes when the next one begins.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks import paths
from tasks.runtime.files import new_folder

PREFIX = "tmp"
"""No digest begins so."""


@contextlib.contextmanager
def making_folder(bases: Path = paths.BASES) -> Iterator[Path]:
    """An empty folder in `bases`, locked against another process that makes one there."""
    from filelock import FileLock

    lock = paths.LOCKS / "base.lock" if bases == paths.BASES else bases.with_name("bases.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    bases.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        for left in bases.glob(f"{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = new_folder(bases, PREFIX)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
