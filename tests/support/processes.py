"""Waiting for processes and looking at them, where each may end while it is looked at."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


def command_line(process: psutil.Process) -> list[str]:
    """The command and its arguments; none of a process that has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
