"""A temporary Prefect server on loopback for a run or a schedule. It ends with its parent.

    url = ensure_server()        # PREFECT_API_URL, if it is set

Prefect's own temporary server would survive a `kill -9` of the command, and cannot schedule. This one is a child process,
flows/runtime/server_process.py. Access to it allows running code as its owner, so it needs a secret (docs/security.md). The command
holds the listening socket: no other process can take the port during a restart (flows/runtime/supervisor.py).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from flows.runtime.environment import PREFECT_FOLDER
from flows.runtime.schedule_address import publish_address, running_schedule
from flows.runtime.server_access import require_access, server_failure
from flows.runtime.server_guard import INSUFFICIENT_STORAGE
from flows.runtime.supervisor import Server, no_space, supervise
from tasks.errors import StropError
from tasks.runtime.private_files import make_private_folder

logger = logging.getLogger(__name__)

USUAL_PORT = 4200
BACKLOG = 1024
"""Connections that wait during a restart."""

CONTINUE = "Finished work is kept: the next `strop run` continues there"


_own_server: Server | None = None
"""The server that this process started."""


def ensure_server(*, schedules: bool = False) -> str:
    """The address of a Prefect API: PREFECT_API_URL, that of a running `strop schedule`, or a new server's.

    Call it before Prefect is imported: the server starts meanwhile. A second call in the process returns the same server.

    Raises:
        StropError: no server responds at PREFECT_API_URL, it denies access, or a new one does not start.
    """
    global _own_server
    started = None
    if url := os.environ.get("PREFECT_API_URL"):
        require_access(url)
    elif running := running_schedule():
        url = _use(*running)
    else:
        started = Server(_listen(USUAL_PORT if schedules else 0), _private_log(), schedules)
        started.start()
        # registered before Prefect is imported, so that it runs after Prefect's exit handler, which sends the last log records
        atexit.register(started.stop)
        url = _use(started.url, started.secret)
    import prefect  # noqa: F401  # 2 to 3 seconds

    from flows.runtime.proxies import ignore_proxies_on_loopback

    ignore_proxies_on_loopback()
    if started is not None:
        started.wait_until_ready()
        supervise(started)
        _own_server = started
        if schedules:
            atexit.register(publish_address(started.url, started.secret))
    return url


@contextlib.contextmanager
def reporting_lost_server() -> Iterator[None]:
    """Converts any error that is caused by a lost Prefect server to one line.

    Raises:
        StropError: the server was given up, denies access, or does not respond.
    """
    try:
        yield
    except BaseException as error:
        require_server()
        if isinstance(error, Exception) and (reason := server_failure(error)):
            if reason == str(INSUFFICIENT_STORAGE):
                raise no_space() from error
            what = f"the Prefect server could not be used ({reason})"
            where = str(_own_server.log) if _own_server else os.environ.get("PREFECT_API_URL")
            fix = f"Check that it runs and that its disk is not full. {CONTINUE}"
            raise StropError(what, where=where, fix=fix) from error
        raise


def require_server() -> None:
    """Raises StropError if the server started by this process was given up."""
    if _own_server is not None and _own_server.lost:
        raise StropError(_own_server.lost, where=str(_own_server.log), fix=CONTINUE)


def _use(url: str, secret: str) -> str:
    """Sets the server for Prefect in this process and its children."""
    os.environ["PREFECT_API_URL"] = url
    os.environ["PREFECT_API_AUTH_STRING"] = secret
    logger.debug(f"Prefect server: {url}")
    return url


def _private_log() -> Path:
    make_private_folder(PREFECT_FOLDER)
    log = (PREFECT_FOLDER / "server.log").absolute()
    log.unlink(missing_ok=True)
    return log


def _listen(port: int) -> socket.socket:
    for candidate in (port, 0):
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also if the last server left connections
            listener.bind(("127.0.0.1", candidate))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
        else:
            return listener
    raise StropError("no free port", where="127.0.0.1", fix="Set PREFECT_API_URL to a running server")
