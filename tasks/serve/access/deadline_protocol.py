"""HTTP connections with deadlines: uvicorn has none for a client that sends its request, or reads its response, slowly."""

from __future__ import annotations

import asyncio
import logging

import h11
from pydantic_core import to_json
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from tasks.serve.errors import ApiError
from tasks.serve.settings import LimitSettings

logger = logging.getLogger(__name__)

NO_CONNECTION_LEFT = ApiError(503, "too_many_connections", "Too many connections are open.", retry_after=1)
TOO_SLOW = ApiError(408, "request_timeout", "The request did not arrive in time.")
GRACE_SECONDS = 1.0
"""Added to the deadline of a request whose head is complete: the application then responds with 408 itself."""


class DeadlineProtocol(H11Protocol):
    """A connection. `protocol_of` sets its limits."""

    limits = LimitSettings()
    _receive_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(NO_CONNECTION_LEFT)
            return
        self._watch_request()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # of a pipelined request, or one that was refused before its end
            self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._receive_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = self.loop.call_later(self.limits.send_seconds, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, "malformed_http", msg))

    def _watch_request(self) -> None:
        """Starts the deadline when a request begins, and ends it when the request is complete."""
        is_incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if is_incomplete and self._receive_timer is None:
            seconds = self.limits.receive_seconds
            self._receive_timer = self.loop.call_later(seconds, self._end_head)
        elif not is_incomplete and self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _end_head(self) -> None:
        self._receive_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._refuse(TOO_SLOW)
        elif self.conn.their_state is h11.SEND_BODY:
            self._receive_timer = self.loop.call_later(GRACE_SECONDS, self._end_body)

    def _end_body(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:
            self._abort()

    def _abort(self) -> None:
        logger.debug("serve: closed the connection of a slow client")
        self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        """Sends the error, if no response has begun, and closes the connection."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = to_json(error.body)
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **error.headers}.items())
        phrase = STATUS_PHRASES[error.status].decode()
        self.transport.write(f"HTTP/1.1 {error.status} {phrase}\r\n{lines}\r\n".encode() + body)
        self.transport.close()


def protocol_of(limits: LimitSettings) -> type[DeadlineProtocol]:
    """The protocol with these limits, for `uvicorn.Config(http=…)`."""
    return type("LimitedProtocol", (DeadlineProtocol,), {"limits": limits})
