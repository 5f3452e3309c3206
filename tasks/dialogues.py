"""Turns of a dialogue, as ShareGPT and OpenAI write them → a row's system, history, input, output, tools and images. Pure.

A turn is (role, text). Where tools are called there are the roles `tool_call` (text: canonical JSON list of {name, arguments})
and `tool` (what the tool answered). The last turn is the output, the one before it the input: a user's, or a tool's answer,
where the last turn of the history is a `tool_call`.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from tasks.files import canonical_json
from tasks.shape_fields import Columns, Fields, NoRow, optional_text

Turn = tuple[str, str]

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
    if turns and turns[0][0] == "system":
        system, turns = turns[0][1], turns[1:]
    if has_system and not system:
        system = optional_text(record, columns, "system")
    roles = [who for who, _ in turns]
    if not _ORDER.fullmatch("".join(_LETTERS[who] for who in roles)):
        raise NoRow("role_order", column, " → ".join(roles) or "no turns")
    return {
        "system": system,
        "history": canonical_json([list(turn) for turn in turns[:-2]]),
        "input": turns[-2][1],
        "output": turns[-1][1],
        "tools": _tools(record, columns),
        "images": _images(record, columns),
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
        return [(who, _calls(said, place))]
    if who == "tool" and isinstance(said, dict):
        return [(who, canonical_json(said))]
    if who == "assistant" and calls:
        told = "" if said is None else _content(said, place)
        call = ("tool_call", _calls(calls, f"{column}.tool_calls"))
        return [(who, told), call] if told.strip() else [call]
    return [(who, _content(said, place))]


def _content(content: Any, field: str) -> str:
    """A turn's text; OpenAI's parts are joined if all of them are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NoRow("wrong_type", field, content)
    texts = []
    for part in content:
        is_text = isinstance(part, dict) and part.get("type") == "text"
        text = (part.get("text") or part.get("value")) if is_text else None
        if not isinstance(text, str):
            raise NoRow("wrong_type", field, part)
        texts.append(text)
    return "\n".join(texts)


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


def _images(record: dict[str, Any], columns: Columns) -> str:
    """JSON list of the images' hashes, in order; ingestion kept the images, and put their hashes into the record."""
    column = columns.get("images", "images")
    given = record.get(column)
    if not given:
        return "[]"
    if not isinstance(given, list):
        raise NoRow("wrong_type", column, given)
    hashes = []
    for image in given:
        if not isinstance(image, dict) or not isinstance(image.get("sha256"), str):
            fault = f"{image.get('path')}: {image.get('fault')}" if isinstance(image, dict) else image
            raise NoRow("missing_field", column, fault)
        hashes.append(image["sha256"])
    return canonical_json(hashes)


def _json(text: str, field: str) -> Any:
    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise NoRow("wrong_type", field, text) from None
