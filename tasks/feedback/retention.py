"""The age of segments: those whose newest record is older than the retention of served records are removed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from filelock import Timeout

from tasks.feedback.spool import folder_lock, segments


def expired_segments(spool: Path, before: float) -> list[Path]:
    """The segments that were last written before a time. The newest of a gateway that lives stays: it is being written."""
    expired = []
    newest = {path.parent: path for path in segments(spool)}
    for path in segments(spool):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before and not (path == newest[path.parent] and is_written(path.parent)):
                expired.append(path)
    return expired


def is_written(folder: Path) -> bool:
    """Whether a process that lives writes to a gateway's folder."""
    try:
        with folder_lock(folder).acquire(blocking=False):
            return False
    except Timeout:
        return True
