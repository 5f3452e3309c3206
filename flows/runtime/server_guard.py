"""What stands before our Prefect server: web pages are refused, and a full disk is reported at once.

Requests by another host name or from another origin are refused.

The secret alone would do against a page that does not know it; this is the second wall. A page at evil.example whose name
resolves to 127.0.0.1 (DNS rebinding) sends its own name as Host, one on another port of this machine its own Origin.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.runtime.loopback import LOOPBACK

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

FIRST_FAILURE = 500
"""Where its database refuses to write Prefect answers 503, or 500; its clients then try for minutes, or name no reason."""
INSUFFICIENT_STORAGE = 507
"""They do not repeat a request that is answered so."""
FULL_BYTES = 4_000_000
"""SQLite needs some room for its journal."""

NOT_THIS_HOST = 421
FORBIDDEN = 403
POLICY_VIOLATION = 1008
"""A websocket's close code; before the handshake it becomes a 403."""

HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)
"""No page may show ours in a frame and have a person click there."""


def guard_origin(app: App) -> App:
    """The application behind the check."""

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        refusal = refusal_of(scope["headers"])
        if refusal is None:
            await app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal[1]})
        else:
            await send(
                {"type": "http.response.start", "status": refusal[0], "headers": [(b"content-type", b"text/plain")]}
            )
            await send({"type": "http.response.body", "body": refusal[1].encode()})

    return guarded


def report_full_disk(app: App, folder: Path) -> App:
    """The application, whose failures by a full disk are answered with 507.

    Args:
        folder: on the disk of the database.
    """

    async def reporting(scope: Message, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            is_failure = message["type"] == "http.response.start" and message["status"] >= FIRST_FAILURE
            if is_failure and is_full(folder):
                message = {**message, "status": INSUFFICIENT_STORAGE}
            await send(message)

        await app(scope, receive, sending)

    return reporting


def is_full(folder: Path) -> bool:
    """Whether a database in the folder has no room to write."""
    return shutil.disk_usage(folder).free < FULL_BYTES


def refusal_of(headers: list[tuple[bytes, bytes]]) -> tuple[int, str] | None:
    """Status and reason where a request with these headers is refused; None where it may pass."""
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if len(hosts) != 1 or _host_name(hosts[0]) not in LOOPBACK:
        return NOT_THIS_HOST, "This server answers to 127.0.0.1 and localhost only."
    origins = {value.decode("latin-1").lower() for name, value in headers if name == b"origin"}
    if origins - {f"http://{hosts[0]}"}:
        return FORBIDDEN, "This server answers no page of another origin."
    return None


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname if "@" not in host else None
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return sending
