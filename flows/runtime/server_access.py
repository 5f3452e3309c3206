"""Checks whether a Prefect server responds and grants access, and whether it caused a flow's failure."""

from __future__ import annotations

import base64
import os
import urllib.error
import urllib.request

from tasks.errors import StropError
from tasks.runtime.loopback import open_url
from tasks.runtime.redaction.errors_and_logs import chain_of


def is_healthy(url: str, timeout_seconds: float = 5.0) -> bool:
    try:
        return open_url(f"{url}/health", timeout_seconds) == 200
    except (OSError, ValueError):
        return False


def require_access(url: str) -> None:
    """Checks that a user's server responds, and accepts the secret or key in Prefect's settings.

    Raises:
        StropError: it does not.
    """
    where = f"PREFECT_API_URL={url}"
    if not is_healthy(url):
        raise StropError("no Prefect server responds there", where=where, fix="Start it, or unset it")
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    request = urllib.request.Request(f"{url}/admin/version")
    if api.auth_string is not None:
        basic = base64.b64encode(api.auth_string.get_secret_value().encode()).decode()
        request.add_header("Authorization", f"Basic {basic}")
    elif api.key is not None:
        request.add_header("Authorization", f"Bearer {api.key.get_secret_value()}")
    try:
        open_url(request, timeout_seconds=5.0)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            fix = "Set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY) to its secret"
            raise StropError(f"the Prefect server denies access ({error.code})", where=where, fix=fix) from error
    except OSError:
        pass  # it was healthy a moment ago; Prefect's client retries


def server_failure(error: BaseException) -> str | None:
    """How the Prefect API failed, if that caused a flow's failure; else None."""
    import httpx

    url = os.environ.get("PREFECT_API_URL", "")
    for cause in chain_of(error):
        if isinstance(cause, RuntimeError) and str(cause).startswith("Failed to reach API"):
            return "it does not respond"
        if isinstance(cause, httpx.HTTPStatusError | httpx.TransportError) and str(_url_of(cause)).startswith(url):
            return str(cause.response.status_code) if isinstance(cause, httpx.HTTPStatusError) else type(cause).__name__
    return None


def _url_of(error: object) -> object:
    try:
        return error.request.url  # type: ignore[attr-defined]
    except RuntimeError:  # no request was made
        return ""
