"""Makes Prefect's clients connect to a server on this machine directly, whatever proxies are set.

httpx creates a client for every proxy in advance. It fails if it does not support one (SOCKS, without its library), even if
NO_PROXY exempts the address. Proxies are unchanged for other addresses.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from tasks.runtime.loopback import exempt_loopback_from_proxies, is_loopback

SAVED_NO_PROXY = "STROP_NO_PROXY"
"""Keeps the value of NO_PROXY while a scheduled run starts without proxies."""


def ignore_proxies_on_loopback() -> None:
    """Makes Prefect's clients in this process ignore proxies for a server on this machine."""
    from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient

    for client in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient):
        original = client.__init__
        if not hasattr(original, "__wrapped__"):
            client.__init__ = _without_proxy(original)  # type: ignore[method-assign]


def start_runs_without_proxies() -> None:
    """For processes started by Prefect: they connect to our server before they import Strop's code."""
    if not is_loopback(os.environ.get("PREFECT_API_URL", "")):
        return
    os.environ.setdefault(SAVED_NO_PROXY, os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"


def use_proxies_again() -> None:
    """In such a process: makes its clients ignore proxies, and restores the user's environment."""
    ignore_proxies_on_loopback()
    if (saved := os.environ.pop(SAVED_NO_PROXY, None)) is not None:
        for name in ("no_proxy", "NO_PROXY"):
            os.environ[name] = saved
            if not saved:
                del os.environ[name]
        exempt_loopback_from_proxies()


def _without_proxy(original: Any) -> Any:
    @functools.wraps(original)
    def initialise(client: Any, *args: Any, **options: Any) -> None:
        if is_loopback(str(options.get("base_url", ""))):
            options.setdefault("trust_env", False)
        original(client, *args, **options)

    return initialise
