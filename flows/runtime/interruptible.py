"""Long work that a signal ends cleanly: Ctrl-C and SIGTERM end the stage's processes first, then the exception is raised.

DVC ignores Ctrl-C in the main thread while a stage runs, so DVC works in another thread: the main thread waits, and can be
interrupted. DVC then sees its stage fail and releases its locks, and the exception propagates.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

from tasks.runtime.parent_watchdog import SECONDS_TO_SAVE
from tasks.runtime.redaction.errors_and_logs import redacted_error

Result = TypeVar("Result")


def run_interruptibly(work: Callable[[], Result]) -> Result:
    """Calls `work` in a thread and waits for it. On an interruption, its child processes are ended before the exception."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised in the waiting thread  # noqa: BLE001
            errors.append(error)

    before = _children()
    thread = threading.Thread(target=call, name="stage", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
    except BaseException:
        last = time.monotonic() + SECONDS_TO_SAVE
        end_processes(_children() - before)
        while thread.is_alive() and time.monotonic() < last:
            thread.join(1.0)
            end_processes(_children() - before)  # a process may have started during the search for the others
        raise
    if errors:
        raise redacted_error(errors[0])
    return results[0]


def end_processes(processes: set[psutil.Process]) -> None:
    """Terminates processes, and kills those that do not end in time."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(processes, timeout=SECONDS_TO_SAVE)[1]:
        process.kill()


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))
