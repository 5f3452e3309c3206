"""The HTTP server: uvicorn with deadlines for slow clients, and an end that waits for answers under way."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from types import FrameType

import uvicorn

from tasks.errors import StropError
from tasks.serve.access.deadline_protocol import protocol_of
from tasks.serve.app.application import make_application
from tasks.serve.app.gateway import Gateway

logger = logging.getLogger(__name__)

BACKLOG = 2048
OTHER_FILES = 200
"""Besides connections: libraries, logs, git, engines."""
CLOSING_SECONDS = 5
"""For connections whose last response is complete."""


class GatewayServer(uvicorn.Server):
    """After SIGTERM or Ctrl-C new requests get 503 while answers under way are completed; a second signal ends these, too."""

    def __init__(self, gateway: Gateway) -> None:
        limits = gateway.settings.limits
        config = uvicorn.Config(
            make_application(gateway),
            http=protocol_of(limits),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
        super().__init__(config)
        self.gateway = gateway
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal. Without the list of captured signals, uvicorn raises none again at its end: the exit code is 0."""
        self._loop.call_soon_threadsafe(self.begin_drain)

    def begin_drain(self) -> None:
        """In the event loop."""
        if self._draining is not None:
            self.force_exit = self.should_exit = True
            return
        logger.info(f"serve: ends after {self.gateway.open_requests} open requests")
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        await self.gateway.drain()
        self.should_exit = True


def allow_files(connections: int) -> None:
    """Raises this process's limit of open files for so many connections, as far as the system allows it."""
    needed = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < needed:
            logger.warning(f"serve: {allowed} open files are allowed; `serve.limits.connections` needs {needed}")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        StropError: the port is used, or there is no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.set_inheritable(False)
    except OSError as error:
        fix = "Choose another one: strop serve --port 8001 (0: a free one)"
        raise StropError(f"cannot listen ({error.strerror or error})", where=f"{host} port {port}", fix=fix) from error
    return listener
