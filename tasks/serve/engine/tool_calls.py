"""Tool calls and values in an answer, in the form in which events report them. Pure."""

from __future__ import annotations

import json
from typing import Any

from tasks.scoring.read_answer import AnswerReader, ReadAnswer
from tasks.serve.engine.request import EngineFailed

MOST_LEVELS = 200
"""Of lists and objects in each other in the JSON of an answer. What writes responses and records fails at more."""


def calls_of(read: ReadAnswer) -> tuple[dict[str, Any], ...]:
    """Calls with their arguments as JSON text; () for any other answer."""
    if read.kind != "tool_calls" or read.is_unparsed:
        return ()
    calls = ((call["name"], call.get("arguments", {})) for call in read.as_json or ())
    return tuple(
        {"name": name, "arguments": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
        for name, value in calls
    )


def read_within_levels(reader: AnswerReader, text: str) -> tuple[ReadAnswer, Any]:
    """An answer as evaluation reads it, and its value for use.

    Raises:
        EngineFailed: its JSON is nested too deeply.
    """
    try:
        read = reader.read(text)
        value = read.as_json
    except RecursionError as error:
        raise EngineFailed("the JSON of the answer is nested too deeply") from error
    _require_levels(value)
    return read, value


def _require_levels(value: Any) -> None:
    level, levels = [value], 0
    while level := [each for each in level if isinstance(each, list | dict)]:
        levels += 1
        if levels > MOST_LEVELS:
            raise EngineFailed(f"the JSON of the answer has more than {MOST_LEVELS} levels")
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
