"""What an HTTP response of a server that is no answer means for a request."""

from __future__ import annotations

import json

from tasks.errors import one_line
from tasks.serve.engine.request import EngineBusy, EngineFailed, EngineLost, RequestRejected

OF_A_REQUEST = frozenset({400, 413, 422})
"""Statuses that are about one request, such as its length."""
TOO_LONG = ("context length", "max_model_len", "maximum context", "too long")
LONGEST_PAUSE_SECONDS = 60.0


class AdapterUnknown(EngineLost):
    """The server has no such model: it was started again, or another client unloaded the adapter."""


def error_of(status: int, content: bytes, retry_after: str | None = None) -> Exception:
    """The error for a response with this status."""
    reason = message_of(content)
    if status in OF_A_REQUEST:
        is_too_long = any(words in reason.lower() for words in TOO_LONG)
        return RequestRejected("prompt_too_long" if is_too_long else "engine_rejected", f"the engine: {reason}")
    if status == 404:
        return AdapterUnknown(reason)
    if status == 429 or (status == 503 and retry_after is not None):
        return EngineBusy(_seconds(retry_after))
    if status in (502, 503, 504):
        return EngineLost(f"the server answers {status} ({reason})")
    return EngineFailed(f"the server answers {status} ({reason})")


def message_of(content: bytes) -> str:
    """The message in an error, in one line. vLLM and SGLang have it in `error`, or at the top."""
    try:
        document = json.loads(content)
        error = document.get("error", document)
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        message = content[:1000].decode("utf-8", "replace")
    return one_line(str(message), 200)


def _seconds(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or 1.0), 0.1), LONGEST_PAUSE_SECONDS)
    except ValueError:
        return 1.0
