"""A temporary folder for a new base, used by one process at a time and removed if it is not renamed.

The folder of a killed process is removed when the next one starts.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks import paths
from tasks.runtime.files import new_folder

PREFIX = "tmp"
"""No digest has this prefix."""


@contextlib.contextmanager
def staging_folder(bases: Path = paths.BASES) -> Iterator[Path]:
    """An empty folder in `bases`, locked against other processes."""
    from filelock import FileLock

    lock = paths.LOCKS / "base.lock" if bases == paths.BASES else bases.with_name("bases.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    bases.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        for leftover in bases.glob(f"{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = new_folder(bases, PREFIX)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
