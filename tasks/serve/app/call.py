"""One HTTP request and its response: JSON, or a stream of server-sent events."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from tasks.serve.access.keys import Caller
from tasks.serve.app.gateway import Gateway
from tasks.serve.errors import ApiError

JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
END_OF_STREAM = b"data: [DONE]\n\n"


@dataclass
class Call:
    gateway: Gateway
    scope: Scope
    receive: Receive
    send: Send
    caller: Caller = field(default_factory=lambda: Caller("", frozenset()))
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(16)}")
    """The response id."""
    status: int = 0
    """Of the response; 0 before it begins."""
    is_stream: bool = False

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    def header(self, name: bytes) -> str | None:
        """The first header of this name."""
        values = [value for key, value in self.scope["headers"] if key == name]
        return values[0].decode("latin-1") if values else None

    async def send_json(self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        await self.send_bytes(to_json(body, inf_nan_mode="null"), JSON, status, headers)

    async def send_bytes(
        self, body: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        await self._start(status, content_type, {"content-length": str(len(body)), **(headers or {})})
        await self.send({"type": "http.response.body", "body": body})

    async def begin_stream(self, headers: Mapping[str, str]) -> None:
        self.is_stream = True
        await self._start(200, EVENTS, headers)

    async def send_event(self, body: Any) -> None:
        data = b"data: " + to_json(body, inf_nan_mode="null") + b"\n\n"
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self, last: bytes = END_OF_STREAM) -> None:
        await self.send({"type": "http.response.body", "body": last})

    async def fail(self, error: ApiError) -> None:
        """Sends the error: as the response, or as the last event of a stream that has begun."""
        if not self.status:
            await self.send_json(error.body, error.status, error.headers)
        elif self.is_stream:
            await self.end_stream(b"data: " + to_json(error.body) + b"\n\n")

    async def until_disconnected(self, work: Coroutine[Any, Any, None]) -> bool:
        """Runs it; cancels it if the client closes the connection. Returns whether it was completed.

        The body of the request must have been read.
        """
        task = asyncio.ensure_future(work)
        watcher = asyncio.ensure_future(self._disconnect())
        try:
            await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if task.cancelled():
                return False
            task.result()
            return True
        finally:
            watcher.cancel()
            if not task.done():  # this call itself was cancelled
                task.cancel()
                await asyncio.wait({task})

    async def _disconnect(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.status = status
        named = {"content-type": content_type, **HEADERS, "x-request-id": self.id, **headers}
        lines = [(name.encode(), value.encode("latin-1", "replace")) for name, value in named.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": lines})
