"""What an answer is read as: text → a label, entities, triples, JSON, calls of tools, code, or plain text. Pure.

A template writes a row's target (data/templates); this module reads it back, from the target and from what a model said alike,
so that the two can be compared. A model may say the same thing otherwise: JSON in a code fence, entities as lines, a call in
the words of its own chat template. What cannot be read is None.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tasks.scoring import answer_parsers as forms

MEASURES = {
    "classification": "exact match",
    "entities": "entity F1",
    "relation": "triple F1",
    "qa": "token F1",
    "translation": "chrF",
    "summary": "ROUGE-L",
    "code": "chrF",
    "json": "equal JSON",
    "tool_calls": "equal calls",
    "free": "token F1",
    "text": "likelihood a byte",
    "preference": "better answer preferred",
}
"""The kinds of target, and by what each is scored. The last two are not answered: a text is read, and a pair compared."""


@dataclass(frozen=True)
class Frame:
    """The constant text that a template writes around the target: "The topic is " and "."."""

    before: str = ""
    after: str = ""

    def taken_off(self, answer: str) -> str:
        """The answer without the frame, if it begins as one: a model may answer with the bare target, `U.S.`."""
        text = answer.strip()
        before, after = self.before.strip(), self.after.strip()
        if not text.lower().startswith(before.lower()):
            return text
        text = text[len(before) :]
        if after and text.endswith(after):
            text = text[: -len(after)]
        return text.strip()


BARE = Frame()

THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"
"""What stands around a thought at the beginning of an answer."""


def without_thought(answer: str) -> str:
    """What an answer says after its thought, if it begins with one that ends. A tag elsewhere in an answer is text."""
    text = answer.lstrip()
    return (
        text.partition(THOUGHT_ENDS)[2].strip() if text.startswith(THOUGHT_BEGINS) and THOUGHT_ENDS in text else answer
    )


def is_unfinished(answer: str) -> bool:
    """Does an answer end within its thought?"""
    text = answer.lstrip()
    return text.startswith(THOUGHT_BEGINS) and THOUGHT_ENDS not in text


def read_target(kind: str, answer: str, frame: Frame = BARE) -> Any:
    """What an answer says, in a form that can be compared, its thought left out; None where it cannot be read.

    Args:
        kind: one of KINDS.
        frame: what the row's template writes around the target.
    """
    answer = without_thought(answer)
    bare = answer.strip() if kind == "code" else frame.taken_off(answer)  # a fence may name its language
    return _READERS[kind](bare)


def spell_target(value: Any) -> str:
    """What was read, as one line of text for reports; "" for what could not be read."""
    if value is None or isinstance(value, str):
        return value or ""
    json_value = sorted(list(pair) for pair in value) if isinstance(value, frozenset) else value
    return (
        _ENCODER.encode(json_value).encode("utf-8", "replace").decode()
    )  # JSON may hold half a character, and no file of ours can


def _short(number: Decimal) -> int | float | str:
    """A number for reports."""
    if number.adjusted() < 18 and number == number.to_integral_value():
        return int(number)
    return float(number) if number.is_zero() or -300 < number.adjusted() < 300 else str(number)


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_short)


def tool_calls_of(text: str) -> list[dict[str, Any]] | None:
    """The calls that a row's text holds, as `ingest` writes them: canonical JSON of [{"arguments", "name"}, ...]; else None."""
    if not text.startswith('[{"arguments":'):
        return None
    calls = forms.json_of(text)
    is_calls = isinstance(calls, list) and all(
        isinstance(call, dict) and set(call) == {"arguments", "name"} and isinstance(call["name"], str)
        for call in calls
    )
    return calls if is_calls else None


_READERS: dict[str, Callable[[str], Any]] = {
    "classification": forms.read_label,
    "entities": forms.read_entities,
    "relation": forms.read_triples,
    "qa": forms.read_text,
    "translation": forms.read_text,
    "summary": forms.read_text,
    "code": forms.read_code,
    "json": forms.read_json,
    "tool_calls": forms.read_calls,
    "free": forms.read_text,
}

KINDS = tuple(_READERS)
"""Those that an answer is read by."""
