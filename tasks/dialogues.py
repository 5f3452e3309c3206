"""Turns of a dialogue, as ShareGPT and OpenAI write them → a row's system, history, input, output, tools and images. Pure.

A turn is (role, text, images): the images by hash, each with its place in the text, `<image>`. Where tools are called there are
the roles `tool_call` (text: canonical JSON list of {name, arguments}) and `tool` (what the tool answered). The last turn is the
output, the one before it the input: a user's, or a tool's answer, where the last turn of the history is a `tool_call`.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from tasks.files import canonical_json
from tasks.shape_fields import Columns, Fields, NoRow, optional_text

Turn = tuple[str, str, tuple[str, ...]]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "tool_call",
    "tool_call": "tool_call",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
"""How roles are called out there → how they are called here."""

IMAGE_PART = "image_url"
"""OpenAI's name of a part of a turn that is an image, and of the key that holds it."""
IMAGE_PLACE = "<image>"

MOST_TURNS = 1000
_LETTERS = {"user": "u", "assistant": "a", "tool_call": "c", "tool": "t", "system": "s"}
_ORDER = re.compile("(?:u(?:a?ct+)*a)*u(?:a?ct+)*[ac]")
"""The user speaks and the assistant answers; in between it may call tools, each call is answered, and it may say why."""


def turns_of(value: Any, columns: Columns, column: str) -> list[Turn]:
    """A list of turns.

    Raises:
        NoRow: it is no list, or one of them is no turn.
    """
    if not isinstance(value, list):
        raise NoRow("wrong_type", column, value)
    if len(value) > MOST_TURNS:
        raise NoRow("role_order", column, f"{len(value):,} turns; at most {MOST_TURNS:,} are a dialogue")
    return [spoken for turn in value for spoken in _turn(turn, columns, column)]


def as_fields(
    turns: list[Turn], record: dict[str, Any], columns: Columns, column: str, has_system: bool = True
) -> Fields:
    """The fields of a whole dialogue, which ends in what is to be learnt.

    Args:
        has_system: may the record say its system text in a column of its own?

    Raises:
        NoRow: its turns are in no order that we know, or an image is not there.
    """
    system = ""
    within = [image for _, _, images in turns for image in images]
    if turns and turns[0][0] == "system":
        system, turns = turns[0][1], turns[1:]
    if has_system and not system:
        system = optional_text(record, columns, "system")
    roles = [who for who, _, _ in turns]
    if not _ORDER.fullmatch("".join(_LETTERS[who] for who in roles)):
        raise NoRow("role_order", column, " → ".join(roles) or "no turns")
    return {
        "system": system,
        "history": canonical_json([[who, text] for who, text, _ in turns[:-2]]),
        "input": turns[-2][1],
        "output": turns[-1][1],
        "tools": _tools(record, columns),
        "images": _images(record, columns, within),
    }


def _turn(turn: Any, columns: Columns, column: str) -> list[Turn]:
    if not isinstance(turn, dict):
        raise NoRow("wrong_type", column, turn)
    role, content = columns.get("role", "role"), columns.get("content", "content")
    if columns.get("from", "from") in turn:
        role, content = columns.get("from", "from"), columns.get("value", "value")
    who, said = turn.get(role), turn.get(content)
    calls = turn.get("tool_calls") or turn.get("function_call")
    if who is None or (said is None and not calls):
        raise NoRow("missing_field", f"{column}.{role if who is None else content}", turn)
    if not isinstance(who, str) or who.lower() not in ROLES:
        raise NoRow("unknown_role", f"{column}.{role}", who)
    who = ROLES[who.lower()]
    place = f"{column}.{content}"
    if who == "tool_call":
        return [(who, _calls(said, place), ())]
    if who == "tool" and isinstance(said, dict):
        return [(who, canonical_json(said), ())]
    is_call_alone = said is None and who == "assistant"
    told, images = ("", ()) if is_call_alone else _content(said, place)
    if who == "assistant":
        if images:  # what is learnt is text
            raise NoRow("wrong_type", place, "an image in what the assistant says")
        if calls:
            call: Turn = ("tool_call", _calls(calls, f"{column}.tool_calls"), ())
            return [(who, told, ()), call] if told.strip() else [call]
    return [(who, told, images)]


def _content(content: Any, field: str) -> tuple[str, tuple[str, ...]]:
    """A turn's text and images; OpenAI's parts are joined."""
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list):
        raise NoRow("wrong_type", field, content)
    texts: list[str] = []
    images: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = (part.get("text") or part.get("value")) if kind == "text" else None
        if kind == IMAGE_PART and isinstance(part.get(IMAGE_PART), dict):
            images.append(_hash_of(part[IMAGE_PART], field))
            text = IMAGE_PLACE
        if not isinstance(text, str):
            raise NoRow("wrong_type", field, part)
        texts.append(text)
    return "\n".join(texts), tuple(images)


def _calls(given: Any, field: str) -> str:
    """Calls of tools as canonical JSON: [{"arguments", "name"}, ...]."""
    calls = _json(given, field) if isinstance(given, str) else given
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        inner = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise NoRow("wrong_type", field, given)
        arguments = inner.get("arguments", {})
        if isinstance(arguments, str):  # OpenAI's are JSON within JSON; a model may have written what is none
            try:
                arguments = _json(arguments, field)
            except NoRow:
                arguments = inner["arguments"]
        found.append({"name": inner["name"], "arguments": arguments})
    if not found:
        raise NoRow("wrong_type", field, given)
    return canonical_json(found)


def _tools(record: dict[str, Any], columns: Columns) -> str:
    """The tools that may be called, as canonical JSON; "" for none."""
    column = columns.get("tools", "tools")
    given = record.get(column)
    if given is None or given == "":
        return ""
    tools = _json(given, column) if isinstance(given, str) else given
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise NoRow("wrong_type", column, given)
    return canonical_json(tools) if tools else ""


def _images(record: dict[str, Any], columns: Columns, within: list[str]) -> str:
    """JSON list of the images' hashes, in order; ingestion kept the images, and put their hashes into the record.

    Args:
        within: of those that stand in the turns.
    """
    column = columns.get("images", "images")
    given = record.get(column)
    if not given:
        return canonical_json(within)
    if not isinstance(given, list):
        raise NoRow("wrong_type", column, given)
    if within:
        raise NoRow("wrong_type", column, "images in the turns, and others beside them: their order is not known")
    return canonical_json([_hash_of(image, column) for image in given])


def _hash_of(image: Any, field: str) -> str:
    """The hash of an image that ingestion has kept."""
    if not isinstance(image, dict) or not isinstance(image.get("sha256"), str):
        fault = f"{image.get('path')}: {image.get('fault')}" if isinstance(image, dict) else image
        raise NoRow("missing_field", field, fault)
    return str(image["sha256"])


def _json(text: str, field: str) -> Any:
    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise NoRow("wrong_type", field, text) from None
