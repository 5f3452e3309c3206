"""The content of a turn: a text, or a list of parts (text, images, thoughts, calls, results). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.records.ordered_json import dumps, without_nulls
from tasks.records.shape_fields import NoRow, Turn, wrong_type

IMAGE_PART = "image_url"
"""OpenAI's type of a part that is an image, and its key for the image."""
IMAGE_PLACE = "<image>"
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn, and types of its parts, with the assistant's thoughts before the answer."""
RESULT_IDS = ("tool_call_id", "tool_use_id")
_CALL_PARTS = ("tool_call", "tool_use")
_RESULT_PART = "tool_result"
PART_TYPES = ("text", IMAGE_PART, *THOUGHTS[1:], *_CALL_PARTS, _RESULT_PART)
"""Types of the parts of a turn's content that are read."""


@dataclass
class TurnContent:
    """The parts of a turn's content, by type."""

    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    results: list[Turn] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def read_content(content: Any, column: str) -> TurnContent:
    """The content of a turn."""
    read = TurnContent()
    if isinstance(content, str):
        read.texts.append(content)
        return read
    if not isinstance(content, list):
        raise wrong_type(column, content)
    for part in content:
        _add_part(read, part, column)
    return read


def _add_part(read: TurnContent, part: Any, column: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _CALL_PARTS:
        call = next((part[key] for key in (kind, "function") if isinstance(part.get(key), dict)), part)
        read.calls.append({"id": part.get("id"), **call})
        return
    if kind == _RESULT_PART:
        read.results.append(_result(part, column))
        return
    if kind in THOUGHTS:
        read.thoughts.append(_first_text(part, (kind, "text", "content", *THOUGHTS), column))
        return
    text = (part.get("text") or part.get("value")) if kind == "text" else None
    if kind == IMAGE_PART and isinstance(part.get(IMAGE_PART), dict):
        read.images.append(hash_of(part[IMAGE_PART], column))
        text = IMAGE_PLACE
    if kind == "text" and text is None and (part.get("text") == "" or part.get("value") == ""):
        text = ""
    if isinstance(kind, str) and kind not in PART_TYPES:
        raise wrong_type(column, f"a part of the type `{kind}`; known are {', '.join(PART_TYPES)}")
    if not isinstance(text, str):
        raise wrong_type(column, part)
    if read.calls:
        raise wrong_type(column, "text behind a call in one turn: a turn of ours says it before")
    read.texts.append(text)


def _result(part: dict[str, Any], column: str) -> Turn:
    value = next((part[key] for key in ("content", "result", "output", "text") if part.get(key) is not None), None)
    if isinstance(value, dict):
        text = dumps(without_nulls(value))
    elif value is None:
        raise NoRow("missing_field", f"{column}.{_RESULT_PART}.content", part)
    else:
        text = read_content(value, column).text
    return Turn("tool", text, ids=(result_id(part, column),))


def result_id(turn: dict[str, Any], column: str) -> str | None:
    for key in RESULT_IDS:
        if (value := turn.get(key)) is not None:
            if not isinstance(value, str):
                raise wrong_type(f"{column}.{key}", value)
            return value or None
    return None


def _first_text(part: dict[str, Any], keys: tuple[str, ...], column: str) -> str:
    for key in keys:
        if isinstance(part.get(key), str):
            return str(part[key])
    raise wrong_type(column, part)


def hash_of(image: Any, field_: str) -> str:
    """The hash of an image that ingestion has stored."""
    if not isinstance(image, dict) or not isinstance(image.get("sha256"), str):
        fault = f"{image.get('path')}: {image.get('fault')}" if isinstance(image, dict) else image
        raise NoRow("missing_field", field_, fault)
    return str(image["sha256"])
