"""Ends a stage within seconds of its parent's death: killing the flow or DVC leaves no trainer running."""

from __future__ import annotations

import os
import signal
import threading
import time

SECONDS_TO_SAVE = 600.0
"""Time for a trainer to finish its step (minutes on a CPU) and write a checkpoint."""
SECONDS_TO_END = 60.0
"""Time for any other stage."""

SHELLS = {"sh", "bash", "dash", "zsh", "fish"}
"""DVC runs a command through a shell, which survives DVC while the command runs: so the shell's parent is watched too."""


def end_with_parent(grace_seconds: float = SECONDS_TO_END) -> None:
    """Watches the parent process (and a shell's parent). When one ends: SIGTERM, then exit after the grace time."""
    import psutil

    watched = []
    process: psutil.Process | None = psutil.Process().parent()
    while process is not None and process.pid != 1:
        watched.append(process)
        if process.name() not in SHELLS:
            break
        process = process.parent()
    if watched:
        threading.Thread(target=_watch, args=(watched, grace_seconds), daemon=True, name="watchdog").start()


def _watch(processes: list, grace_seconds: float) -> None:  # type: ignore[type-arg]
    while all(_is_alive(process) for process in processes):
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)  # a trainer writes a checkpoint
    time.sleep(grace_seconds)
    os._exit(143)


def _is_alive(process) -> bool:  # type: ignore[no-untyped-def]
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
