"""The Prefect server of this process, and its supervision: a server that dies or hangs during a run is restarted.

The running stage is not affected: the socket stays open, requests wait there, and Prefect's client retries interrupted ones. A
server that dies repeatedly is given up: the run is interrupted as by Ctrl-C, and ends with one line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from flows.runtime.environment import PREFECT_FOLDER
from flows.runtime.server_access import is_healthy
from flows.runtime.server_guard import is_full
from tasks.errors import DiskError, StropError
from tasks.runtime.logs.libraries import silence
from tasks.runtime.private_files import open_private_log

logger = logging.getLogger(__name__)

STARTUP_SECONDS = 120.0
RESTARTS = 2
PATIENCE_SECONDS = 15.0
"""Since it first died; a run without a server ends within half a minute."""
STEADY_SECONDS = 60.0
"""A server that ran this long does not count as dying repeatedly."""
POLL_SECONDS = 2.0
HANG_SECONDS = 10.0
"""A server that neither responds nor uses CPU for this long hangs. On a busy machine it may respond late, but then it uses CPU."""

GONE_RESPONSE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Server:
    """A server started by this process: its listening socket, held here, and its child process."""

    listener: socket.socket
    log: Path
    schedules: bool = False
    secret: str = field(default_factory=lambda: f"strop:{secrets.token_urlsafe(32)}", repr=False)
    is_stopped: bool = False
    lost: str | None = None
    """Why it was given up, if it was."""
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/api"

    def start(self) -> None:
        """Starts or restarts the process, with the same address, secret and database."""
        descriptor = self.listener.fileno()
        arguments = [sys.executable, "-m", "flows.runtime.server_process", str(descriptor)]
        arguments += ["--schedules"] if self.schedules else []
        log = open_private_log(self.log)
        try:
            self.process = subprocess.Popen(
                arguments,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[descriptor],
                env={**os.environ, "PREFECT_SERVER_API_AUTH_STRING": self.secret},  # `ps` shows arguments to all users
            )
        finally:
            os.close(log)

    def wait_until_ready(self) -> None:
        """Returns when it responds.

        Raises:
            StropError: it ended, or did not respond in time.
        """
        end = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < end:
            if is_healthy(self.url, timeout_seconds=2.0):
                return
            if self.process.poll() is not None:
                if is_full(self.log.parent):
                    raise no_space()
                raise StropError("the Prefect server did not start", where=str(self.log), fix="See its log")
            time.sleep(0.1)
        what = f"the Prefect server did not respond in {STARTUP_SECONDS:.0f} s"
        raise StropError(what, where=str(self.log), fix="See its log")

    def stop(self) -> None:
        self.is_stopped = True
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.listener.close()


def no_space() -> DiskError:
    fix = "Free some (`dvc gc -w -T`, an old .strop/checkpoints), then run again: nothing is lost"
    return DiskError("no space left", where=str(PREFECT_FOLDER), fix=fix)


def supervise(server: Server) -> None:
    """Supervises a ready server until `Server.stop`. Call it from the main thread, which it interrupts if necessary."""
    with contextlib.suppress(ValueError):  # not the main thread: it cannot be interrupted then
        signal.signal(signal.SIGUSR1, _interrupt)
    threading.Thread(target=_watch, args=(server,), daemon=True, name="supervisor").start()


def _watch(server: Server) -> None:
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
        logger.warning(f"strop: the Prefect server {what}; it is restarted.")
        started = now
        try:
            server.start()
        except OSError as error:
            return _give_up(server, f"the Prefect server ended, and cannot be restarted ({error.strerror})")


def _wait(server: Server) -> tuple[int, bool]:
    """(exit code, whether it hung and was killed), when the server has ended."""
    last_response = time.monotonic()
    last_cpu = -1.0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return server.process.wait(POLL_SECONDS), False
        now = time.monotonic()
        cpu = _cpu_seconds(server.process.pid)
        if cpu > last_cpu + 0.01 or is_healthy(server.url, POLL_SECONDS):
            last_response, last_cpu = time.monotonic(), cpu
        elif now - last_response > HANG_SECONDS and not server.is_stopped:
            server.process.kill()
            return server.process.wait(), True


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:  # it has just ended
        return 0.0
    return float(times.user + times.system)


def _give_up(server: Server, reason: str) -> None:
    server.lost = reason
    # Prefect's log workers would print each record that they cannot send; the run ends with one line
    logging.raiseExceptions = False
    silence("prefect")
    threading.Thread(target=_reject_all, args=(server.listener,), daemon=True, name="no-server").start()
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGUSR1)  # this thread cannot raise an exception in the main thread


def _reject_all(listener: socket.socket) -> None:
    """Responds to every request with 410, which Prefect's client does not retry; without a response it would retry for minutes."""
    listener.settimeout(None)
    with contextlib.suppress(OSError):  # closed at exit
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_reject, args=(connection,), daemon=True).start()


def _reject(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        connection.settimeout(5.0)
        connection.recv(65536)
        connection.sendall(GONE_RESPONSE)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # else unread data would reset the connection before the response arrives
            pass


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Interrupts like Ctrl-C, also if SIGINT is ignored because a shell started the process in the background."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt
