"""Calls that may hang, at once and with a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

TIME_LIMIT_SECONDS = 20.0
"""Of a check that waits for another machine."""


def run_at_once(calls: Sequence[Callable[[], Any]], seconds: float = TIME_LIMIT_SECONDS) -> list[Any]:
    """The results of the calls, each in a thread: a value, the exception that was raised, or a TimeoutError.

    A thread that hangs is abandoned; it does not keep the process alive.
    """
    results: list[Any] = [TimeoutError()] * len(calls)

    def run(index: int) -> None:
        try:
            results[index] = calls[index]()
        except Exception as error:  # noqa: BLE001
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return results.copy()
