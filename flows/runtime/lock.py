"""One run at a time in a project, and one schedule: file locks that the kernel drops when their process dies."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks import paths
from tasks.errors import StropError


class Busy(StropError):
    """Another process is at it."""


@contextlib.contextmanager
def one_run_at_a_time() -> Iterator[None]:
    """Held while a run goes on. The same process may enter it again.

    Raises:
        Busy: another process runs in this project.
    """
    with _held("run", what="a run is going on", fix="Wait for it to end, or stop it"):
        yield


@contextlib.contextmanager
def one_schedule() -> Iterator[None]:
    """Held while a schedule is served.

    Raises:
        Busy: another process serves one in this project.
    """
    with _held("schedule", what="a schedule is being served", fix="One a project is enough: stop that one first"):
        yield


def is_running() -> bool:
    """Whether a run goes on in some process."""
    from filelock import FileLock, Timeout

    path = paths.LOCKS / "run.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(blocking=False):
            return False
    except Timeout:
        return True


@contextlib.contextmanager
def _held(name: str, *, what: str, fix: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    # absolute, because a singleton lock is found by its path, and one process may serve several projects
    lock = FileLock((paths.LOCKS / f"{name}.lock").absolute(), is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise Busy(f"{what} already{_holder(name)}", where=str(Path.cwd()), fix=fix) from error
    try:
        with contextlib.suppress(OSError):  # who holds it is a courtesy
            _holder_file(name).write_text(json.dumps({"pid": os.getpid(), "since": _now()}))
        yield
    finally:
        lock.release()


def _holder_file(name: str) -> Path:
    return paths.LOCKS / f"{name}.json"


def _holder(name: str) -> str:
    try:
        holder = json.loads(_holder_file(name).read_text())
        return f" (process {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
