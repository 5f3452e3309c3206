"""The judge's answer: JSON with a winner and a reason. Anything else is no verdict. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from tasks.evaluate.judge.pair import Winner
from tasks.scoring.thoughts import without_thought

WINNERS: tuple[Winner, ...] = ("A", "B", "tie")
SCHEMA: dict[str, Any] = {
    "type": "object",
    # the reason first: a verdict that is written before its reasons cannot follow from them
    "properties": {"reason": {"type": "string"}, "winner": {"type": "string", "enum": list(WINNERS)}},
    "required": ["reason", "winner"],
    "additionalProperties": False,
}
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)


def response_format(kind: str) -> dict[str, Any]:
    """The field `response_format` of a request, by the setting of that name."""
    if kind == "json_schema":
        schema = {"name": "verdict", "strict": True, "schema": SCHEMA}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {"response_format": {"type": "json_object"}} if kind == "json_object" else {}


def parse_winner(answer: str) -> Winner | None:
    """The winner; None if the answer, after its thought and within its fence, is not such JSON."""
    text = without_thought(answer).strip()
    if fenced := _FENCED.match(text):
        text = fenced[1]
    try:
        value = json.loads(text, object_pairs_hook=_without_repeated_keys)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("reason"), str):
        return None
    winner = value.get("winner")
    return winner if isinstance(winner, str) and winner in WINNERS else None


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key occurs twice")
    return value
