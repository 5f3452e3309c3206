"""Targets and answers as values that can be compared: a label, entities, triples, JSON, tool calls, code, or text. Pure.

A template writes a row's target (data/templates). The same parser reads the target and a model's answer. A model may write the same
value in another form: JSON in a code fence, entities as lines, a call in the form of its own chat template.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tasks.scoring.answer_parsers import json_of
from tasks.scoring.metrics import METRICS
from tasks.scoring.thoughts import without_thought


@dataclass(frozen=True)
class Frame:
    """The constant text that a template writes around the target: "The topic is " and "."."""

    before: str = ""
    after: str = ""

    def remove_from(self, answer: str) -> str:
        """The answer without the frame, if it begins as one: a model may answer with the bare target, `U.S.`."""
        text = answer.strip()
        before, after = self.before.strip(), self.after.strip()
        if not text.lower().startswith(before.lower()):
            return text
        text = text[len(before) :]
        if after and text.endswith(after):
            text = text[: -len(after)]
        return text.strip()


NO_FRAME = Frame()


def parse_answer(kind: str, answer: str, frame: Frame = NO_FRAME) -> Any:
    """The value of an answer or target, without its thought; None if it cannot be parsed.

    Args:
        kind: one of `answer_kinds()`.
        frame: the constant text that the row's template writes around the target.
    """
    metric, answer = METRICS[kind], without_thought(answer)
    assert metric.parse is not None, f"rows of the kind `{kind}` have no answer"
    return metric.parse(frame.remove_from(answer) if metric.removes_frame else answer.strip())


def text_of(value: Any) -> str:
    """A parsed value as one line of text for reports; "" for None.

    Args:
        value: text, JSON, or a frozenset of texts or of tuples of texts.
    """
    if value is None or isinstance(value, str):
        return value or ""
    json_value = (
        sorted(list(e) if isinstance(e, tuple) else e for e in value) if isinstance(value, frozenset) else value
    )
    # JSON may contain half of a surrogate pair, which UTF-8 cannot encode
    return _ENCODER.encode(json_value).encode("utf-8", "replace").decode()


def _short(number: Decimal) -> int | float | str:
    """A number as JSON for reports."""
    if number.adjusted() < 18 and number == number.to_integral_value():
        return int(number)
    return float(number) if number.is_zero() or -300 < number.adjusted() < 300 else str(number)


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_short)


def tool_calls_of(text: str) -> list[dict[str, Any]] | None:
    """The calls in a row's text, as `ingest` writes them: canonical JSON of [{"arguments", "name"}, ...]; else None."""
    if not text.startswith('[{"arguments":'):
        return None
    calls = json_of(text)
    is_calls = isinstance(calls, list) and all(
        isinstance(call, dict) and set(call) == {"arguments", "name"} and isinstance(call["name"], str)
        for call in calls
    )
    return calls if is_calls else None
