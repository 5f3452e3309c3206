"""Keeps the Prefect server of this process answering: a server that dies or hangs in mid-run is started again.

The stage that runs meanwhile does not notice: the socket stays open, requests wait there, and Prefect's client repeats those that
were cut off. A server that dies again and again is given up: the run is interrupted as by Ctrl-C, and ends in one line.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Protocol

import psutil

from flows.runtime.server_access import is_healthy

RESTARTS = 2
PATIENCE_SECONDS = 15.0
"""Since its first end; a run is told within half a minute that there is no server."""
STEADY_SECONDS = 60.0
"""One that lived so long has not been dying again and again."""
LOOK_SECONDS = 2.0
HANG_SECONDS = 10.0
"""One that neither answers nor computes for so long hangs. On a busy machine it may answer late, but then it computes."""

GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Supervised(Protocol):
    """A server of this process (flows/runtime/prefect_server.py)."""

    listener: socket.socket
    process: subprocess.Popen[bytes]
    is_stopped: bool
    lost: str | None

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...


def supervise(server: Supervised) -> None:
    """Watches a server that is ready, until `Server.stop`. Call it from the main thread, which is interrupted at need."""
    with contextlib.suppress(ValueError):  # not the main thread: it cannot be interrupted then
        signal.signal(signal.SIGUSR1, _interrupt)
    threading.Thread(target=_watch, args=(server,), daemon=True, name="supervisor").start()


def _watch(server: Supervised) -> None:
    ends: list[float] = []
    started = time.monotonic()
    while True:
        code, hung = _wait(server)
        if server.is_stopped:
            return None
        now = time.monotonic()
        ends = [*(ends if now - started < STEADY_SECONDS else []), now]
        if len(ends) > RESTARTS or now - ends[0] > PATIENCE_SECONDS:
            return _give_up(server, f"the Prefect server ended {len(ends)} times in {now - ends[0] + 1:.0f} s")
        what = "hung" if hung else f"ended (exit code {code})"
        print(f"strop: the Prefect server {what}; it is started again.", file=sys.stderr, flush=True)
        started = now
        try:
            server.start()
        except OSError as error:
            return _give_up(server, f"the Prefect server ended, and cannot be started again ({error.strerror})")


def _wait(server: Supervised) -> tuple[int, bool]:
    """The exit code of the server once it has ended, and whether it hung and was killed."""
    answered = time.monotonic()
    computed = -1.0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return server.process.wait(LOOK_SECONDS), False
        now = time.monotonic()
        used = _processor_seconds(server.process.pid)
        if used > computed + 0.01 or is_healthy(server.url, LOOK_SECONDS):
            answered, computed = time.monotonic(), used
        elif now - answered > HANG_SECONDS and not server.is_stopped:
            server.process.kill()
            return server.process.wait(), True


def _processor_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:  # it has just ended
        return 0.0
    return float(times.user + times.system)


def _give_up(server: Supervised, reason: str) -> None:
    server.lost = reason
    # Prefect's workers would print each record that they can no longer send; the run ends with one line
    logging.raiseExceptions = False
    logging.disable(logging.CRITICAL)
    threading.Thread(target=_refuse, args=(server.listener,), daemon=True, name="no-server").start()
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGUSR1)  # this thread cannot raise in that one


def _refuse(listener: socket.socket) -> None:
    """Answers every request with 410, which Prefect's client does not repeat: it would for minutes where nothing answers."""
    listener.settimeout(None)
    with contextlib.suppress(OSError):  # closed at exit
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_refuse_one, args=(connection,), daemon=True).start()


def _refuse_one(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        connection.settimeout(5.0)
        connection.recv(65536)
        connection.sendall(GONE)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # else what is unread would reset the connection before the answer is seen
            pass


def _interrupt(_: int, frame: FrameType | None) -> None:
    """As Ctrl-C does, also where a shell that started us in the background has it ignored."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt
