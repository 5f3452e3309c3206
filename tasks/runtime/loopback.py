"""Servers on this machine are reached directly: the proxies of the environment are for everything else."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import urllib.request

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(url: str) -> bool:
    """Whether the address is one of this machine."""
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False


def exempt_loopback_from_proxies(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds this machine's names to NO_PROXY, for this process and those that it starts. Without a proxy, it does nothing.

    Both spellings are set: urllib, requests and httpx let the lower one win, other programs know the upper one only.
    """
    proxies = [name for name in environment if name.lower().endswith("_proxy") and name.lower() != "no_proxy"]
    if not any(environment[name] for name in proxies):
        return  # on macOS a NO_PROXY alone would hide the proxies of the system's settings
    value = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    if "*" in entries:  # everything is exempt; urllib knows `*` only where it stands alone
        entries = ["*"]
    else:
        entries += [name for name in LOOPBACK if name not in entries]
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join(entries)


def open_url(request: str | urllib.request.Request, timeout_seconds: float) -> int:
    """The status of the answer to a request; on this machine without a proxy. Raises OSError where there is none."""
    import urllib.request  # with http and ssl, which `strop status` needs not

    url = request if isinstance(request, str) else request.full_url
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout_seconds) as answer:
        return int(answer.status)
