"""Connects to servers on this machine directly: the proxies in the environment are for other hosts only."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import urllib.request

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(url: str) -> bool:
    """Whether the address is on this machine."""
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False


def exempt_loopback_from_proxies(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds this machine's names to NO_PROXY, for this process and its children. Does nothing if no proxy is set.

    Sets both spellings: urllib, requests and httpx prefer the lower-case one, other programs read only the upper-case one.
    """
    proxies = [name for name in environment if name.lower().endswith("_proxy") and name.lower() != "no_proxy"]
    if not any(environment[name] for name in proxies):
        return  # on macOS a NO_PROXY alone would hide the proxies of the system's settings
    value = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    if "*" in entries:  # everything is exempt; urllib accepts `*` only as the whole value
        entries = ["*"]
    else:
        entries += [name for name in LOOPBACK if name not in entries]
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join(entries)


def open_url(request: str | urllib.request.Request, timeout_seconds: float) -> int:
    """The status of the response; without a proxy for this machine. Raises OSError if there is no response."""
    import urllib.request  # slow: imports http and ssl, which `strop status` does not need

    url = request if isinstance(request, str) else request.full_url
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout_seconds) as response:
        return int(response.status)
