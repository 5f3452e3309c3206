"""What an OpenAI-compatible server says about itself: its models, and its version."""

from __future__ import annotations

import json
from typing import Any

from tasks.inference.endpoint import api_key, not_set
from tasks.runtime.loopback import is_loopback
from tasks.runtime.redaction.settings import with_values

TIMEOUT_SECONDS = 10.0
MAX_BYTES = 1 << 20
VERSION_PATHS = ("version", "server_info", "get_server_info")
"""Of vLLM and SGLang, beside `/v1`; each has `version`."""


def served_models(base_url: str, api_key_env: str | None) -> list[str] | None:
    """The names of its models; None if it does not answer."""
    document = _get(f"{_filled_in(base_url)}/models", api_key_env)
    try:
        return [str(model["id"]) for model in document["data"]]
    except (LookupError, TypeError):
        return None


def server_version(base_url: str, api_key_env: str | None) -> str | None:
    """Its version; None if it does not tell."""
    root = _filled_in(base_url).removesuffix("/v1")
    for path in VERSION_PATHS:
        document = _get(f"{root}/{path}", api_key_env)
        if isinstance(document, dict) and isinstance(version := document.get("version"), str):
            return version[:100]
    return None


def _filled_in(base_url: str) -> str:
    return str(with_values(base_url, not_set)).rstrip("/")


def _get(url: str, api_key_env: str | None) -> Any:
    """The JSON document at a URL; None if there is none."""
    import httpx

    headers = {} if api_key_env is None else {"Authorization": f"Bearer {api_key(api_key_env)}"}
    try:
        with httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS, trust_env=not is_loopback(url)) as client:
            response = client.get(url)
            is_document = response.status_code == 200 and len(response.content) <= MAX_BYTES
            return json.loads(response.content) if is_document else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError):
        return None
