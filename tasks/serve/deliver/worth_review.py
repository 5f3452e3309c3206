"""Which answers a person should look at, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tasks.expression.evaluate import Kind
from tasks.expression.expression import Expression, Language, parse_expression
from tasks.feedback.records import Answer, ServedResponse
from tasks.feedback.traces import storable
from tasks.runtime.files import canonical_json
from tasks.scoring.degenerate_answers import degenerate_reason
from tasks.scoring.text_metrics import token_f1
from tasks.scoring.thoughts import without_thought
from tasks.serve.deliver.settings import ReviewSettings

DIFFERS = "differs from its shadow"
COLUMNS: Mapping[str, Kind] = {
    **dict.fromkeys(
        ("prompt", "answer", "family", "template", "model", "engine", "key", "arm", "reason", "path"), "text"
    ),
    **dict.fromkeys(("version", "prompt_tokens", "tokens", "seconds"), "number"),
    **dict.fromkeys(("is_shadow", "is_shortened"), "truth"),
}
"""What `serve.review.slice` may name."""


@cache
def parse_slice(text: str) -> Expression:
    """Raises ValueError if it is no condition on an answer."""
    return parse_expression(text, Language(COLUMNS, "docs/serving.md"))


def review_reasons(response: ServedResponse, settings: ReviewSettings) -> list[str]:
    """Why a person should look at a response; empty for any other, and for one without texts.

    Raises:
        ValueError: `settings.slice` is no condition.
    """
    if response.omitted or response.error or not response.answers:
        return []
    reasons = list(dict.fromkeys(reason for answer in response.answers if (reason := _defect(response, answer))))
    if settings.slice is not None and _drawn(response.id) < settings.share and _is_in(response, settings.slice):
        reasons.append("slice")
    return reasons


def differ(answer: Answer, shadow: Answer, least_agreement: float) -> bool:
    """Whether two answers to one request differ so much that one of them may be wrong."""
    if not least_agreement:
        return False
    values = (answer.value, shadow.value)
    if None not in values and not all(isinstance(value, str) for value in values):
        return canonical_json(values[0]) != canonical_json(values[1])
    if answer.calls or shadow.calls:
        return list(answer.calls) != list(shadow.calls)
    texts = [_text(each) for each in (answer, shadow)]
    return texts[0] != texts[1] and (token_f1(*texts) or 0.0) < least_agreement


def _defect(response: ServedResponse, answer: Answer) -> str:
    """What is wrong with an answer whatever the right one is: what the question has is permitted in it."""
    if answer.calls:
        return ""
    if "family" in response.prompt and answer.value is None:
        return "unparsed"
    if isinstance(answer.value, Mapping) and not answer.text:  # probabilities of a classifier, or a reward
        return ""
    question = prompt_text(response.prompt)
    return degenerate_reason(without_thought(answer.text), question, question, compares_scripts=False) or ""


def _is_in(response: ServedResponse, condition: str) -> bool:
    import pyarrow as pa

    first = response.answers[0]
    values = {
        **{name: getattr(response, name) for name in COLUMNS if hasattr(response, name)},
        "prompt": prompt_text(response.prompt),
        "answer": _text(first),
        "family": str(response.prompt.get("family") or ""),
        "template": str(response.prompt.get("template") or ""),
        "reason": first.reason,
        "tokens": sum(answer.tokens for answer in response.answers),
    }
    expression = parse_slice(condition)
    return bool(expression.holds(pa.table({name: [storable(values[name])] for name in expression.columns}))[0])


def prompt_text(prompt: Mapping[str, Any]) -> str:
    """The texts of a request's fields, or the last turn of its dialogue."""
    if messages := prompt.get("messages"):
        return _content_text(messages[-1].get("content"))
    if "text" in prompt:
        return str(prompt["text"])
    return "\n".join(str(value) for value in (prompt.get("fields") or {}).values() if isinstance(value, str))


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)


def _text(answer: Answer) -> str:
    return answer.value if isinstance(answer.value, str) else without_thought(answer.text)


def _drawn(response: str) -> float:
    """A number from 0 to 1 that its id determines; other digits than those of `serve.record.text_share`."""
    return int(response[5:13], 16) / 2**32
