"""The document of a client → feedback, or the reason why it is refused. Pure.

{"response_id": "resp_…", "value": true}                                  a rating, yes or no
{"response_id": "resp_…", "value": 0.8, "name": "helpful"}                a rating from 0 to 1
{"response_id": "resp_…", "type": "comment", "value": "Too long."}
{"response_id": "resp_…", "type": "demonstration", "value": "Paris."}     a corrected answer
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from tasks.feedback.records import Kind, SourceType

MOST_BYTES = {"comment": 8_192, "demonstration": 65_536}
"""Of a text, as UTF-8. The explanation of a rating is bounded as a comment."""
NAMES = ("response_id", "type", "name", "value", "choice", "explanation", "source", "user", "client_id")
DEFAULT_NAMES = {"boolean": "rating", "float": "rating", "comment": "comment", "demonstration": "demonstration"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RESPONSE = re.compile(r"resp_[0-9a-f]{32}")
MOST_CHOICES = 128
MOST_ID_CHARACTERS = 256


class FeedbackRefused(Exception):
    """Feedback that is not stored.

    Args:
        status: of HTTP.
        code: for programs; never changed.
        param: the part of the document that is wrong.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param


@dataclass(frozen=True)
class CheckedFeedback:
    """A valid document; whether there is such a response is not known yet."""

    response: str
    type: Kind
    name: str
    value: bool | float | str
    choice: int = 0
    explanation: str = ""
    source: SourceType = "human"
    user: str = ""
    client_id: str = ""


def check_feedback(document: Mapping[str, Any]) -> CheckedFeedback:
    """Raises FeedbackRefused: 404 for an id that no response has, 422 for anything that is not allowed."""
    if unknown := sorted(map(str, set(document) - set(NAMES))):
        raise _invalid(
            "unknown_field", f"unknown field: {unknown[0][:100]}; known are {', '.join(NAMES)}", unknown[0][:100]
        )
    response = document.get("response_id")
    if not isinstance(response, str):
        raise _invalid("invalid_response_id", "`response_id` is the `id` of a response", "response_id")
    if not _RESPONSE.fullmatch(response):
        raise unknown_response()
    kind = _kind(document)
    name = document.get("name", DEFAULT_NAMES[kind])
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid("invalid_name", "`name` is 1 to 64 letters, digits, `_`, `.` or `-`", "name")
    source = document.get("source", "human")
    if source not in get_args(SourceType):
        raise _invalid("invalid_source", "`source` is human, llm or code", "source")
    choice = document.get("choice", 0)
    if isinstance(choice, bool) or not isinstance(choice, int) or not 0 <= choice < MOST_CHOICES:
        raise _invalid("invalid_choice", "`choice` is the index of an answer of the response", "choice")
    explanation = _text(document.get("explanation", ""), "explanation", MOST_BYTES["comment"])
    ids = {key: _text(document.get(key, ""), key, MOST_ID_CHARACTERS) for key in ("user", "client_id")}
    return CheckedFeedback(response, kind, name, _value(document, kind), choice, explanation, source, **ids)


def unknown_response() -> FeedbackRefused:
    """The same for an id that does not exist, one of another key, and one whose records were removed."""
    return FeedbackRefused(
        404, "response_not_found", "there is no such response, or it is not kept any more", "response_id"
    )


def _invalid(code: str, message: str, param: str) -> FeedbackRefused:
    return FeedbackRefused(422, code, message, param)


def _kind(document: Mapping[str, Any]) -> Kind:
    kind, value = document.get("type"), document.get("value")
    if kind is None:
        if isinstance(value, str):
            raise _invalid("missing_type", "a text needs `type`: comment or demonstration", "type")
        return "boolean" if isinstance(value, bool) else "float"
    if kind not in get_args(Kind):
        raise _invalid("invalid_type", f"`type` is {', '.join(get_args(Kind))}", "type")
    return kind  # type: ignore[no-any-return]


def _value(document: Mapping[str, Any], kind: Kind) -> bool | float | str:
    value = document.get("value")
    if kind in MOST_BYTES:
        text = _text(value, "value", MOST_BYTES[kind])
        if not text.strip():
            raise _invalid("empty_value", f"a {kind} is a text that is not empty", "value")
        return text
    if kind == "boolean":
        if not isinstance(value, bool):
            raise _invalid("invalid_value", "`value` is true or false", "value")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _invalid("invalid_value", "`value` is a number from 0 to 1; divide other scales by their range", "value")
    return float(value)


def _text(value: Any, name: str, most_bytes: int) -> str:
    if not isinstance(value, str):
        raise _invalid("invalid_value", f"`{name}` is a text", name)
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _invalid("invalid_value", f"`{name}` holds half of a surrogate pair, which is no text", name)
    if (size := len(value.encode())) > most_bytes:
        raise _invalid("too_long", f"`{name}` has {size:,} bytes; at most {most_bytes:,} are stored", name)
    return value
