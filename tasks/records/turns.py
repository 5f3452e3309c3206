"""A turn of a record → turns of ours: who, what text, which images, whether it is trained, what was thought. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tasks.records.ordered_json import Number, dumps, without_nulls
from tasks.records.shape_fields import Columns, NoRow
from tasks.records.tool_calls import OBSERVATION, Calls, calls_of
from tasks.records.turn import Turn

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
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn, and types of its parts, that hold what the assistant thought before it answered."""
FLAGS = ("weight", "train", "loss_mask", "loss")
"""Keys of a turn that say whether it is trained: true or 1, false or 0."""
RESULT_IDS = ("tool_call_id", "tool_use_id")
TURN_KEYS = frozenset((*THOUGHTS, *FLAGS, *RESULT_IDS, "tool_calls", "function_call"))
"""Keys of a turn that are read, beside its role and content."""
ANSWERS = ("assistant", "tool_call")

_SPEAKERS = {name: role for name, role in ROLES.items() if role != "tool_call"}
_CALL_PARTS = ("tool_call", "tool_use")
_RESULT_PART = "tool_result"
PART_TYPES = ("text", IMAGE_PART, *THOUGHTS[1:], *_CALL_PARTS, _RESULT_PART)
"""Types of the parts of a turn's content that are read."""


@dataclass
class _Content:
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    results: list[Turn] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def read_turn(turn: Any, columns: Columns, column: str) -> list[Turn]:
    """The turns that one of a record becomes.

    Raises:
        NoRow: it is none, or holds what cannot be used.
    """
    if not isinstance(turn, dict):
        raise NoRow("wrong_type", column, turn)
    role, content = columns.get("role", "role"), columns.get("content", "content")
    if turn.get(columns.get("from", "from")) is not None:
        role, content = columns.get("from", "from"), columns.get("value", "value")
    who, given = turn.get(role), turn.get(content)
    if len(turn) == 2 and isinstance(given, str) and isinstance(who, str) and who in _SPEAKERS:  # most are
        return [Turn(_SPEAKERS[who], given, speaker=OBSERVATION if who == OBSERVATION else "")]
    calls = turn.get("tool_calls") or turn.get("function_call")
    if calls and turn.get("function_call") and calls is not turn["function_call"]:
        raise NoRow("wrong_type", f"{column}.function_call", "a call beside `tool_calls`: their order is not known")
    if who is None or (given is None and not calls):
        raise NoRow("missing_field", f"{column}.{role if who is None else content}", turn)
    if not isinstance(who, str) or who.lower() not in ROLES:
        raise NoRow("unknown_role", f"{column}.{role}", who)
    speaker = _speaker(turn, who.lower())
    who, place = ROLES[who.lower()], f"{column}.{content}"
    is_trained = _is_trained(turn, who, column)
    if who == "tool_call":
        if calls and given:
            raise NoRow(
                "wrong_type", place, "calls in the content, and others in `tool_calls`: their order is not known"
            )
        made = calls_of(calls or given, place)
        return [Turn(who, made.text, (), is_trained, _thought(turn, [], column), made.ids)]
    if who == "tool" and isinstance(given, dict):
        return [Turn(who, dumps(without_nulls(given)), ids=(_result_id(turn, column),), speaker=speaker)]
    read = _Content() if given is None and who == "assistant" else _content(given, place)
    thought = _thought(turn, read.thoughts, column)
    if who == "assistant":
        return _answer(read, calls, thought, is_trained, place, column)
    if thought or read.calls:
        what = "a thought" if thought else "a call"
        raise NoRow("wrong_type", place, f"{what} in a turn of the role {who}; it is the assistant's")
    if calls:
        raise NoRow(
            "wrong_type", f"{column}.tool_calls", f"calls in a turn of the role {who}; they are the assistant's"
        )
    if read.results and not read.text.strip() and not read.images:
        return read.results
    ids = (_result_id(turn, column),) if who == "tool" else ()
    return [*read.results, Turn(who, read.text, tuple(read.images), ids=ids, speaker=speaker)]


def _speaker(turn: dict[str, Any], role: str) -> str:
    if ROLES[role] != "tool":
        return ""
    name = turn.get("name")
    return name if name and isinstance(name, str) else OBSERVATION if role == OBSERVATION else ""


def _answer(read: _Content, calls: Any, thought: str, is_trained: bool, place: str, column: str) -> list[Turn]:
    if read.images:  # what is learnt is text
        raise NoRow("wrong_type", place, "an image in what the assistant says")
    if read.results:
        raise NoRow("wrong_type", place, "a tool's result in what the assistant says")
    if read.calls and calls:
        raise NoRow("wrong_type", place, "calls in the content, and others in `tool_calls`: their order is not known")
    if thought and read.text.lstrip().startswith("<think>"):
        raise NoRow(
            "wrong_type", place, "a thought in the content, and another beside it: one of them would be trained twice"
        )
    made: Calls | None = None
    if read.calls:
        made = calls_of(read.calls, place)
    elif calls:
        made = calls_of(calls, f"{column}.tool_calls")
    if made is None:
        return [Turn("assistant", read.text, (), is_trained, thought)]
    if not read.text.strip():
        return [Turn("tool_call", made.text, (), is_trained, thought, made.ids)]
    return [
        Turn("assistant", read.text, (), is_trained, thought),
        Turn("tool_call", made.text, (), is_trained, "", made.ids),
    ]


def _content(content: Any, place: str) -> _Content:
    """A turn's text, and what else stands in its parts."""
    read = _Content()
    if isinstance(content, str):
        read.texts.append(content)
        return read
    if not isinstance(content, list):
        raise NoRow("wrong_type", place, content)
    for part in content:
        _add_part(read, part, place)
    return read


def _add_part(read: _Content, part: Any, place: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _CALL_PARTS:
        given = next((part[key] for key in (kind, "function") if isinstance(part.get(key), dict)), part)
        read.calls.append({"id": part.get("id"), **given})
        return
    if kind == _RESULT_PART:
        read.results.append(_result(part, place))
        return
    if kind in THOUGHTS:
        read.thoughts.append(_first_text(part, (kind, "text", "content", *THOUGHTS), place))
        return
    text = (part.get("text") or part.get("value")) if kind == "text" else None
    if kind == IMAGE_PART and isinstance(part.get(IMAGE_PART), dict):
        read.images.append(hash_of(part[IMAGE_PART], place))
        text = IMAGE_PLACE
    if kind == "text" and text is None and (part.get("text") == "" or part.get("value") == ""):
        text = ""
    if isinstance(kind, str) and kind not in PART_TYPES:
        raise NoRow("wrong_type", place, f"a part of the type `{kind}`; known are {', '.join(PART_TYPES)}")
    if not isinstance(text, str):
        raise NoRow("wrong_type", place, part)
    if read.calls:
        raise NoRow("wrong_type", place, "text behind a call in one turn: a turn of ours says it before")
    read.texts.append(text)


def _result(part: dict[str, Any], place: str) -> Turn:
    given = next((part[key] for key in ("content", "result", "output", "text") if part.get(key) is not None), None)
    if isinstance(given, dict):
        text = dumps(without_nulls(given))
    elif given is None:
        raise NoRow("missing_field", f"{place}.{_RESULT_PART}.content", part)
    else:
        text = _content(given, place).text
    return Turn("tool", text, ids=(_result_id(part, place),))


def _result_id(turn: dict[str, Any], column: str) -> str | None:
    for key in RESULT_IDS:
        if (given := turn.get(key)) is not None:
            if not isinstance(given, str):
                raise NoRow("wrong_type", f"{column}.{key}", given)
            return given or None
    return None


def _first_text(part: dict[str, Any], keys: tuple[str, ...], place: str) -> str:
    for key in keys:
        if isinstance(part.get(key), str):
            return str(part[key])
    raise NoRow("wrong_type", place, part)


def _thought(turn: dict[str, Any], parts: list[str], column: str) -> str:
    """What was thought before the turn, under whichever name; the same text may stand under several."""
    given = ["\n".join(parts)] if parts else []
    for key in THOUGHTS:
        value = turn.get(key)
        if value is not None and not isinstance(value, str):
            raise NoRow("wrong_type", f"{column}.{key}", value)
        given += [value] if value else []
    if len(set(given)) > 1:
        raise NoRow("wrong_type", f"{column}.{THOUGHTS[0]}", "two thoughts of one turn that are not the same")
    return given[0] if given else ""


def _is_trained(turn: dict[str, Any], who: str, column: str) -> bool:
    """Whether the turn's flags let it be trained; without one it is."""
    is_trained = True
    for key in FLAGS:
        if key in turn and turn[key] is not None:
            flag = flag_of(turn[key], f"{column}.{key}")
            if flag and who not in ANSWERS and key != "weight":  # some write a weight of 1 beside every turn
                raise NoRow(
                    "wrong_type", f"{column}.{key}", f"a turn of the role {who} to be trained: answers alone are"
                )
            is_trained = is_trained and flag
    return is_trained


def flag_of(value: Any, place: str) -> bool:
    number = value.value if isinstance(value, Number) else value
    if isinstance(number, (bool, int, float)) and number in (0, 1):
        return bool(number)
    raise NoRow("wrong_type", place, value)


def hash_of(image: Any, field_: str) -> str:
    """The hash of an image that ingestion has kept."""
    if not isinstance(image, dict) or not isinstance(image.get("sha256"), str):
        fault = f"{image.get('path')}: {image.get('fault')}" if isinstance(image, dict) else image
        raise NoRow("missing_field", field_, fault)
    return str(image["sha256"])
