"""ASGI middleware of our servers: rejects requests from web pages, which have another host name or come from another origin.

The secret already protects against a page that does not know it; this is the second protection. A page at evil.example whose name
resolves to 127.0.0.1 (DNS rebinding) sends its own name as Host, and a page on another port of this machine its own Origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from tasks.runtime.loopback import LOOPBACK

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

NOT_THIS_HOST = 421
FORBIDDEN = 403
POLICY_VIOLATION = 1008
"""The websocket close code; before the handshake it becomes a 403."""

HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)
"""No page may embed ours in a frame (clickjacking)."""


def guard_origin(app: App) -> App:
    """Wraps the application in the check of host and origin."""

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


def refusal_of(headers: list[tuple[bytes, bytes]], names: Collection[str] = LOOPBACK) -> tuple[int, str] | None:
    """Status and reason if a request with these headers is rejected; None if it is accepted.

    Args:
        names: the host names of this server.
    """
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if len(hosts) != 1 or _host_name(hosts[0]) not in names:
        accepted = "127.0.0.1 and localhost" if names is LOOPBACK else ", ".join(names)
        return NOT_THIS_HOST, f"This server accepts only the hosts {accepted}."
    origins = {value.decode("latin-1").lower() for name, value in headers if name == b"origin"}
    if origins - {f"http://{hosts[0]}"}:
        return FORBIDDEN, "This server accepts no requests from other origins."
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
