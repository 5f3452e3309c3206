"""Signals wait while a process forks: until the child has set its own handlers, it would run those of its parent, whose exception
would unwind the parent's stack in the child.

    with signals_held():
        worker.start()
    release_signals()       # in the child, after it has set its handlers
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM reach this thread, and the processes that start in the block, only after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> None:
    """In a process that was started in the block: from now on they reach it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
