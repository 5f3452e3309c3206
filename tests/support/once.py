"""What is made once a session, by the worker that needs it first, and shared by all: templates of projects, and servers."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FOLDER = "STROP_TEST_SHARED"
END_SECONDS = 10


def begin_session() -> None:
    """Makes the folder that the workers share. What is in it, servers too, ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="strop-session-"))
    os.environ[FOLDER] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(_end_servers, folder)


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, in which `make` was called by whoever came first; others wait for it."""
    if FOLDER not in os.environ:  # a benchmark makes a project, without pytest
        begin_session()
    folder = Path(os.environ[FOLDER]) / name
    made = folder.with_name(f"{name}.made")
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def keep_running(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Has the session's end stop a server, which leads a process group, rather than its worker's."""
    (folder / "server.pid").write_text(str(server.pid))


def remove_at_end(place: Path, folder: Path) -> None:
    """Has the session's end remove a folder outside of the session's own, after the servers have stopped."""
    (folder / "outside").write_text(str(place))


def _end_servers(folder: Path) -> None:
    _stop_servers(folder)
    for file in folder.glob("*/outside"):
        shutil.rmtree(file.read_text(), ignore_errors=True)


def _stop_servers(folder: Path) -> None:
    for file in folder.glob("*/server.pid"):
        group = int(file.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
            end = time.monotonic() + END_SECONDS
            while time.monotonic() < end:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(group, os.WNOHANG)
                os.killpg(group, 0)
                time.sleep(0.05)
            os.killpg(group, signal.SIGKILL)
