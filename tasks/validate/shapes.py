"""A record, in whatever shape it came, → the fields of a row, or the problem that keeps it from being one. Pure.

alpaca             instruction, input?, output; system? and history? ([[question, answer], ...])
prompt_completion  prompt → input, completion → output; system?
text_label         text → input, label → output
sharegpt           conversations: [{from, value}, ...]; system?
messages           messages: [{role, content}, ...]; content may be OpenAI's list of text parts
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.files import canonical_json

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""How roles are called out there → how they are called here."""

_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Problem:
    """Why a record is no row."""

    code: str
    """One of the first rules in `rules.py`."""
    field: str = ""
    value: Any = None


class NoRow(Exception):
    """Raised within this module, and caught by `to_fields`."""

    def __init__(self, code: str, field: str = "", value: Any = None) -> None:
        super().__init__(code)
        self.problem = Problem(code, field, value)


Columns = dict[str, str]
Fields = dict[str, str]


def to_fields(record: Any, shape: str, columns: Columns) -> Fields | Problem:
    """The row's system, history (JSON), instruction, input and output; or what is wrong with the record.

    Args:
        columns: our field → the record's, where its name differs.
    """
    try:
        if not isinstance(record, dict):
            raise NoRow("not_an_object", "record", record)
        fields = {"system": "", "history": "[]", "instruction": "", "input": "", "output": ""}
        fields |= SHAPES[shape](record, columns)
        for name, text in fields.items():
            if not text.isascii() and _HALF_SURROGATE.search(text):  # no file format of ours can hold it
                raise NoRow("encoding_damage", name, text)
        return fields
    except NoRow as found:
        return found.problem


def own_id(record: Any, columns: Columns) -> str | None:
    """The record's own id, as text, where the source says which column it is."""
    if "id" not in columns or not isinstance(record, dict):
        return None
    value = record.get(columns["id"])
    return None if value is None else canonical_json(value)


def _alpaca(record: dict[str, Any], columns: Columns) -> Fields:
    fields = {
        "instruction": _text(record, columns, "instruction"),
        "input": _optional_text(record, columns, "input"),
        "output": _text(record, columns, "output"),
        "system": _optional_text(record, columns, "system"),
    }
    column = columns.get("history", "history")
    if earlier := record.get(column):
        fields["history"] = canonical_json(_pairs(earlier, column))
    return fields


def _prompt_completion(record: dict[str, Any], columns: Columns) -> Fields:
    return {
        "input": _text(record, columns, "prompt"),
        "output": _text(record, columns, "completion"),
        "system": _optional_text(record, columns, "system"),
    }


def _text_label(record: dict[str, Any], columns: Columns) -> Fields:
    return {"input": _text(record, columns, "text"), "output": _text(record, columns, "label")}


def _sharegpt(record: dict[str, Any], columns: Columns) -> Fields:
    fields = _dialogue(record, columns, "conversations", "from", "value")
    if not fields["system"]:
        fields["system"] = _optional_text(record, columns, "system")
    return fields


def _messages(record: dict[str, Any], columns: Columns) -> Fields:
    return _dialogue(record, columns, "messages", "role", "content")


SHAPES: dict[str, Callable[[dict[str, Any], Columns], Fields]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "text_label": _text_label,
}


def _text(record: dict[str, Any], columns: Columns, field: str) -> str:
    column = columns.get(field, field)
    value = record.get(column)
    if value is None:
        raise NoRow("missing_field", column, sorted(record))
    if not isinstance(value, str):
        raise NoRow("wrong_type", column, value)
    return value


def _optional_text(record: dict[str, Any], columns: Columns, field: str) -> str:
    return "" if record.get(columns.get(field, field)) is None else _text(record, columns, field)


def _pairs(earlier: Any, column: str) -> list[list[str]]:
    """Alpaca's history as turns."""
    turns = []
    for pair in earlier if isinstance(earlier, list) else [earlier]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise NoRow("wrong_type", column, pair)
        turns += [["user", pair[0]], ["assistant", pair[1]]]
    return turns


def _dialogue(record: dict[str, Any], columns: Columns, field: str, role: str, content: str) -> Fields:
    """The last exchange as input and output, the turns before as history."""
    column = columns.get(field, field)
    turns = record.get(column)
    if turns is None:
        raise NoRow("missing_field", column, sorted(record))
    if not isinstance(turns, list):
        raise NoRow("wrong_type", column, turns)
    spoken = [_turn(turn, columns, column, role, content) for turn in turns]
    system = spoken.pop(0)[1] if spoken and spoken[0][0] == "system" else ""
    roles = [who for who, _ in spoken]
    if not roles or len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
        raise NoRow("role_order", column, " → ".join(roles) or "no turns")
    return {
        "system": system,
        "history": canonical_json([list(turn) for turn in spoken[:-2]]),
        "input": spoken[-2][1],
        "output": spoken[-1][1],
    }


def _turn(turn: Any, columns: Columns, column: str, role: str, content: str) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise NoRow("wrong_type", column, turn)
    who = turn.get(columns.get(role, role))
    text = turn.get(columns.get(content, content))
    if who is None or text is None:
        raise NoRow("missing_field", f"{column}.{columns.get(role if who is None else content, content)}", turn)
    if not isinstance(who, str) or who.lower() not in ROLES:
        raise NoRow("unknown_role", f"{column}.{columns.get(role, role)}", who)
    return ROLES[who.lower()], _content(text, f"{column}.{columns.get(content, content)}")


def _content(content: Any, field: str) -> str:
    """A turn's text; OpenAI's parts are joined if all of them are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NoRow("wrong_type", field, content)
    texts = []
    for part in content:
        text = (
            (part.get("text") or part.get("value")) if isinstance(part, dict) and part.get("type") == "text" else None
        )
        if not isinstance(text, str):
            raise NoRow("wrong_type", field, part)
        texts.append(text)
    return "\n".join(texts)
