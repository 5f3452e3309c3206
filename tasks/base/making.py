"""A folder in .strop/bases while it is being made: by one process at a time, and gone if it is not moved to its place."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks import paths


@contextlib.contextmanager
def making_folder() -> Iterator[Path]:
    """An empty folder beside the bases, locked against another process that makes one."""
    from filelock import FileLock

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    paths.BASES.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.LOCKS / "base.lock"):
        temporary = Path(tempfile.mkdtemp(dir=paths.BASES))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
