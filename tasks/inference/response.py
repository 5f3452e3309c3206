"""An endpoint's HTTP response: bounded in size and time, and parsed without trust."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tasks.errors import one_line
from tasks.inference.connection import Completion

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 16 * 1024 * 1024
"""The limit for a response: 4,096 tokens with their log-probabilities take some megabytes."""
CUT_OFF = ("length", "content_filter")
"""Finish reasons of an incomplete answer."""


@dataclass(frozen=True)
class Response:
    status: int
    retry_after: str | None
    """The header of that name."""
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


def post(client: httpx.Client, url: str, body: dict[str, Any], timeout_seconds: float) -> Response:
    """The response to a request, read within the time limit: httpx's own limit is for each part of it.

    Raises:
        httpx.TransportError: there is no response, or it is too long or too slow.
    """
    import httpx

    deadline, content = time.monotonic() + timeout_seconds, bytearray()
    with client.stream("POST", url, json=body) as response:
        for part in response.iter_bytes():
            content += part
            if len(content) > MAX_BYTES:
                raise httpx.ReadError(f"the response has more than {MAX_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"no complete answer within {timeout_seconds:g} s")
        return Response(response.status_code, response.headers.get("retry-after"), bytes(content))


def completion_of(response: Response) -> Completion | None:
    """The completion; None if the response is not one."""
    try:
        document = json.loads(response.content)
        choice = document["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        is_cut, tokens = choice.get("finish_reason") in CUT_OFF, choice.get("token_ids")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if text is None:  # a model that was stopped before its first token
        text = ""
    if not isinstance(text, str):
        return None
    if tokens is not None and not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
        return None
    usage, ids = document.get("usage"), None if tokens is None else tuple(tokens)
    return Completion(text, is_cut, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), ids)


def refusal_of(response: Response) -> str:
    """The endpoint's error in one line."""
    try:
        error = json.loads(response.content)["error"]
        message = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, LookupError, TypeError, RecursionError):
        message = response.text
    return f"answers {response.status} ({one_line(message, 200)})"


def seconds_to_wait(response: Response) -> float | None:
    """Seconds until the time in the header `retry-after`: a number, or a date."""
    if response.retry_after is None:
        return None
    try:
        return max(float(response.retry_after), 0.0)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(response.retry_after)
    except ValueError:
        return None
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment.tzinfo else None


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0
