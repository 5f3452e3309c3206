"""A turn of a record → our turns: role, text, images, whether it is trained, and thoughts. Pure."""

from __future__ import annotations

from typing import Any

from tasks.records.ordered_json import Number, dumps, without_nulls
from tasks.records.shape_fields import Columns, NoRow, Turn, wrong_type
from tasks.records.tool_calls import OBSERVATION, calls_of
from tasks.records.turn_content import RESULT_IDS, THOUGHTS, TurnContent, read_content, result_id

_NAMES = {
    "system": ("system", "developer"),
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "chatgpt", "bot", "model"),
    "tool_call": ("function_call", "tool_call"),
    "tool": ("tool", "function", "observation", "tool_response"),
}
ROLES = {name: role for role, names in _NAMES.items() for name in names}
"""Roles in records → our roles."""

FLAGS = ("weight", "train", "loss_mask", "loss")
"""Keys of a turn for whether it is trained: true or 1, false or 0."""
TURN_KEYS = frozenset((*THOUGHTS, *FLAGS, *RESULT_IDS, "tool_calls", "function_call"))
"""Keys of a turn that are read, with its role and content."""
ANSWERS = ("assistant", "tool_call")

_CALLS_TWICE = "calls in the content, and others in `tool_calls`: their order is not known"
_SPEAKERS = {name: role for name, role in ROLES.items() if role != "tool_call"}


def read_turn(turn: Any, columns: Columns, column: str) -> list[Turn]:
    """Our turns for one turn of a record.

    Raises:
        NoRow: it is not a turn, or has something that cannot be used.
    """
    if not isinstance(turn, dict):
        raise wrong_type(column, turn)
    role_key, content_key = columns.get("role", "role"), columns.get("content", "content")
    if turn.get(columns.get("from", "from")) is not None:
        role_key, content_key = columns.get("from", "from"), columns.get("value", "value")
    role, value = turn.get(role_key), turn.get(content_key)
    if len(turn) == 2 and isinstance(value, str) and isinstance(role, str) and role in _SPEAKERS:  # most turns
        return [Turn(_SPEAKERS[role], value, speaker=OBSERVATION if role == OBSERVATION else "")]
    calls = turn.get("tool_calls") or turn.get("function_call")
    if calls and turn.get("function_call") and calls is not turn["function_call"]:
        raise wrong_type(f"{column}.function_call", "a call beside `tool_calls`: their order is not known")
    if role is None or (value is None and not calls):
        raise NoRow("missing_field", f"{column}.{role_key if role is None else content_key}", turn)
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise NoRow("unknown_role", f"{column}.{role_key}", role)
    speaker = _speaker(turn, role.lower())
    role, content_column = ROLES[role.lower()], f"{column}.{content_key}"
    is_trained = _is_trained(turn, role, column)
    if role == "tool_call":
        if calls and value:
            raise wrong_type(content_column, _CALLS_TWICE)
        parsed = calls_of(calls or value, content_column)
        return [Turn(role, parsed.text, (), is_trained, _thought(turn, [], column), parsed.ids)]
    if role == "tool" and isinstance(value, dict):
        return [Turn(role, dumps(without_nulls(value)), ids=(result_id(turn, column),), speaker=speaker)]
    content = TurnContent() if value is None and role == "assistant" else read_content(value, content_column)
    thought = _thought(turn, content.thoughts, column)
    if role == "assistant":
        return _answer(content, calls, thought, is_trained, content_column, column)
    if thought or content.calls:
        what = "a thought" if thought else "a call"
        raise wrong_type(content_column, f"{what} in a turn of the role {role}; it is the assistant's")
    if calls:
        raise wrong_type(f"{column}.tool_calls", f"calls in a turn of the role {role}; they are the assistant's")
    if content.results and not content.text.strip() and not content.images:
        return content.results
    ids = (result_id(turn, column),) if role == "tool" else ()
    return [*content.results, Turn(role, content.text, tuple(content.images), ids=ids, speaker=speaker)]


def _speaker(turn: dict[str, Any], role: str) -> str:
    if ROLES[role] != "tool":
        return ""
    name = turn.get("name")
    return name if name and isinstance(name, str) else OBSERVATION if role == OBSERVATION else ""


def _answer(
    content: TurnContent, calls: Any, thought: str, is_trained: bool, content_column: str, column: str
) -> list[Turn]:
    if content.images:  # targets are text
        raise wrong_type(content_column, "an image in what the assistant says")
    if content.results:
        raise wrong_type(content_column, "a tool's result in what the assistant says")
    if content.calls and calls:
        raise wrong_type(content_column, _CALLS_TWICE)
    if thought and content.text.lstrip().startswith("<think>"):
        what = "a thought in the content, and another beside it: one of them would be trained twice"
        raise wrong_type(content_column, what)
    answer = Turn("assistant", content.text, (), is_trained, thought)
    if not content.calls and not calls:
        return [answer]
    parsed = calls_of(content.calls or calls, content_column if content.calls else f"{column}.tool_calls")
    before = [answer] if content.text.strip() else []
    return [*before, Turn("tool_call", parsed.text, (), is_trained, "" if before else thought, parsed.ids)]


def _thought(turn: dict[str, Any], parts: list[str], column: str) -> str:
    """The thought before the turn, under any of its names; the same text may have several."""
    thoughts = ["\n".join(parts)] if parts else []
    for key in THOUGHTS:
        value = turn.get(key)
        if value is not None and not isinstance(value, str):
            raise wrong_type(f"{column}.{key}", value)
        thoughts += [value] if value else []
    if len(set(thoughts)) > 1:
        raise wrong_type(f"{column}.{THOUGHTS[0]}", "two thoughts of one turn that are not the same")
    return thoughts[0] if thoughts else ""


def _is_trained(turn: dict[str, Any], role: str, column: str) -> bool:
    """Whether the turn is trained, by its flags; without flags it is."""
    is_trained = True
    for key in FLAGS:
        if key in turn and turn[key] is not None:
            flag = flag_of(turn[key], f"{column}.{key}")
            if flag and role not in ANSWERS and key != "weight":  # some data have a weight of 1 in every turn
                raise wrong_type(f"{column}.{key}", f"a turn of the role {role} to be trained: answers alone are")
            is_trained = is_trained and flag
    return is_trained


def flag_of(value: Any, column: str) -> bool:
    number = value.value if isinstance(value, Number) else value
    if isinstance(number, (bool, int, float)) and number in (0, 1):
        return bool(number)
    raise wrong_type(column, value)
