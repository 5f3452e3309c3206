"""Prefect's clients and a server on this machine: reached directly, whatever the proxies of the environment are.

httpx makes a client for every proxy beforehand. It fails where it cannot use one (SOCKS, without a library for it), although
NO_PROXY exempts the address. Proxies stay as they are for everything else.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from tasks.runtime.loopback import exempt_loopback_from_proxies, is_loopback

KEPT = "STROP_NO_PROXY"
"""What NO_PROXY says, while a scheduled run starts without proxies."""


def ignore_proxies_on_loopback() -> None:
    """Has Prefect's clients of this process ignore proxies for a server on this machine."""
    from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient

    for client in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient):
        original = client.__init__
        if not hasattr(original, "__wrapped__"):
            client.__init__ = _directly(original)  # type: ignore[method-assign]


def start_runs_without_proxies() -> None:
    """For processes that Prefect starts: they speak to our server before any code of ours is imported."""
    if not is_loopback(os.environ.get("PREFECT_API_URL", "")):
        return
    os.environ.setdefault(KEPT, os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"


def use_proxies_again() -> None:
    """In such a process: its clients are made to ignore proxies, and the environment is the user's again."""
    ignore_proxies_on_loopback()
    if (kept := os.environ.pop(KEPT, None)) is not None:
        for name in ("no_proxy", "NO_PROXY"):
            os.environ[name] = kept
            if not kept:
                del os.environ[name]
        exempt_loopback_from_proxies()


def _directly(original: Any) -> Any:
    @functools.wraps(original)
    def initialise(client: Any, *args: Any, **named: Any) -> None:
        if is_loopback(str(named.get("base_url", ""))):
            named.setdefault("trust_env", False)
        original(client, *args, **named)

    return initialise
