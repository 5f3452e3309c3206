"""At most one run and one schedule per project: file locks that the kernel releases when their process dies."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks import paths
from tasks.errors import StropError


class Busy(StropError):
    """Another process holds the lock."""


def one_run_at_a_time() -> contextlib.AbstractContextManager[None]:
    """Held during a run. Reentrant within a process.

    Raises:
        Busy: another process runs in this project.
    """
    return _locked("run", what="a run is in progress", fix="Wait for it to end, or stop it")


def one_schedule() -> contextlib.AbstractContextManager[None]:
    """Held while a schedule is served.

    Raises:
        Busy: another process serves one in this project.
    """
    return _locked("schedule", what="a schedule is being served", fix="A project can have one: stop it first")


@contextlib.contextmanager
def no_run_in(worktrees: Iterable[Path]) -> Iterator[None]:
    """Held while no run may work in this project or another worktree of its repository.

    Raises:
        Busy: one of them has a run in progress.
    """
    with contextlib.ExitStack() as stack:
        for root in worktrees:
            if root.resolve() == Path.cwd().resolve() or (root / paths.CACHE).is_dir():
                lock = _locked("run", what="a run is in progress", fix="Wait for it to end, or stop it", root=root)
                stack.enter_context(lock)
        yield


def is_running() -> bool:
    """Whether a run is in progress in any process."""
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
def _locked(name: str, *, what: str, fix: str, root: Path | None = None) -> Iterator[None]:
    from filelock import FileLock, Timeout

    root = root or Path.cwd()
    folder = root / paths.LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    holder_file = folder / f"{name}.json"
    # absolute, because singleton locks are identified by path, and one process may serve several projects
    lock = FileLock((folder / f"{name}.lock").absolute(), is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        holder = ""
        with contextlib.suppress(OSError, ValueError, KeyError):
            entry = json.loads(holder_file.read_text())
            holder = f" (process {entry['pid']}, since {entry['since']})"
        raise Busy(f"{what} already{holder}", where=str(root), fix=fix) from error
    try:
        with contextlib.suppress(OSError):  # the holder is only information
            since = datetime.now(UTC).isoformat(timespec="seconds")
            holder_file.write_text(json.dumps({"pid": os.getpid(), "since": since}))
        yield
    finally:
        lock.release()
