"""Ends a stage within seconds of its parent's death: whoever kills the flow or DVC does not leave a trainer behind."""

from __future__ import annotations

import os
import signal
import threading
import time

SECONDS_TO_SAVE = 600.0
"""What a trainer may take to end its step, of minutes on a CPU, and write a checkpoint. All else ends at once."""

SHELLS = {"sh", "bash", "dash", "zsh", "fish"}
"""DVC runs a command through a shell, which outlives DVC for as long as we run: we watch the shell's parent as well."""


def end_with_parent(interval_seconds: float = 1.0) -> None:
    """Watches the parent process (and, behind a shell, its parent) and ends this process when one is gone."""
    import psutil

    watched = []
    process: psutil.Process | None = psutil.Process().parent()
    while process is not None and process.pid != 1:
        watched.append(process)
        if process.name() not in SHELLS:
            break
        process = process.parent()
    if watched:
        threading.Thread(target=_watch, args=(watched, interval_seconds), daemon=True, name="watchdog").start()


def _watch(processes: list, interval_seconds: float) -> None:  # type: ignore[type-arg]
    while all(_is_alive(process) for process in processes):
        time.sleep(interval_seconds)
    os.kill(os.getpid(), signal.SIGTERM)  # a trainer saves what it can
    time.sleep(SECONDS_TO_SAVE)
    os._exit(143)


def _is_alive(process) -> bool:  # type: ignore[no-untyped-def]
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
