"""Reads the body of a request: within its limits, as JSON, and with no field that is unknown or that would have no effect."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from tasks.runtime.origin_guard import Receive
from tasks.serve.errors import ApiError
from tasks.serve.settings import LimitSettings

MALFORMED = "malformed_json"
SHOWN_CHARACTERS = 60
_MAY_OVERFLOW = re.compile(rb"[0-9][eE]\+?[0-9]{2}|[0-9]{309}")
VARIANTS = ("system", "developer", "user", "assistant", "tool")
_TYPES, _TYPE_PREFIXES = ("str", "int", "float"), ("list[", "dict[", "literal[", "function-", "constrained-")
_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


class Body(BaseModel):
    """The fields that a request may have. Lists are `list`: a strict model takes no list for a tuple."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Disconnected(Exception):
    """The client closed the connection."""


_Body = TypeVar("_Body", bound=Body)


async def read_body(receive: Receive, length: str | None, limits: LimitSettings) -> bytes:
    """The whole body; its bytes are counted, whatever its header says.

    Raises:
        ApiError: 413 or 408.
        Disconnected: the client closed the connection.
    """
    too_large = ApiError(413, "body_too_large", f"The body is larger than {limits.body_bytes} bytes.")
    if length is not None and length.isdecimal() and int(length) > limits.body_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.receive_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limits.body_bytes:
                    raise too_large
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError as error:
        seconds = f"{limits.receive_seconds:g}"
        raise ApiError(408, "request_timeout", f"The body did not arrive within {seconds} seconds.") from error


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ApiError: 400, it is not one.
    """
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, MALFORMED, f"The body is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ApiError(400, MALFORMED, "The body must be a JSON object.")
    if _MAY_OVERFLOW.search(body) and _has_infinity(document):
        raise ApiError(400, MALFORMED, "The body has a number that is too large.")
    return document


def _has_infinity(value: Any) -> bool:
    """Whether it has a number like 1e999, which is read as infinity, and is no JSON where it is written again."""
    if isinstance(value, dict | list):
        return any(map(_has_infinity, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isinf(value)


def parse(model: type[_Body], document: Mapping[str, Any], neutral: Mapping[str, Any], unsupported: set[str]) -> _Body:
    """The document as a model. A null is as if the field were absent.

    Args:
        neutral: field → the value at which it has no effect, so that it may be left out.
        unsupported: further fields of OpenAI's API.

    Raises:
        ApiError: 400; it names the first field that is wrong.
    """
    fields = {name: value for name, value in document.items() if value is not None}
    for name, value in neutral.items():
        if name in fields and fields.pop(name) != value:
            raise unsupported_parameter(name, f"Only {value!r}, which has no effect, is accepted.")
    for name in fields:
        if name in unsupported:
            raise unsupported_parameter(name)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _api_error(error, model) from error


def unsupported_parameter(name: str, why: str = "") -> ApiError:
    message = f"The parameter `{name}` is not supported. {why}".strip()
    return ApiError(400, "unsupported_parameter", message, name)


def _api_error(error: ValidationError, model: type[Body]) -> ApiError:
    first = error.errors(include_url=False)[0]
    param = param_of(first["loc"])
    code = _CODES.get(first["type"], "invalid_value")
    if code == "unknown_parameter":
        message = f"Unknown parameter: `{param}`."
        if len(first["loc"]) == 1:
            names = sorted(field.alias or name for name, field in model.model_fields.items())
            message += f" Known: {', '.join(names)}."
    elif code == "missing_required_parameter":
        message = f"The parameter `{param}` is missing."
    else:
        value = first["input"]
        shown = f" is {str(value)[:SHOWN_CHARACTERS]!r}" if isinstance(value, str | int | float | bool) else ""
        message = f"`{param}`{shown}: {first['msg'].removeprefix('Value error, ')}."
    return ApiError(400, code, message, param[:200])


def param_of(location: tuple[int | str, ...]) -> str:
    """`messages[0].content`: without pydantic's names of types and of the variants of a message."""
    param = ""
    previous: int | str = ""
    for part in location:
        is_variant = isinstance(previous, int) and part in VARIANTS
        if isinstance(part, int):
            param += f"[{part}]"
        elif not is_variant and part not in _TYPES and not part.startswith(_TYPE_PREFIXES):
            param += f".{part}" if param else part
        previous = part
    return param
