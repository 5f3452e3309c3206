"""Personal data in records: masked in all texts of a record alike, or its texts are omitted, as `curate.pii` sets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tasks.feedback.records import NOT_SAMPLED, Answer, Feedback, ServedResponse
from tasks.pii.edits import apply
from tasks.pii.mask_texts import PiiRefused, mask_texts
from tasks.pii.settings import PiiSettings

LEAST_DIGITS = 7
"""A number with fewer is no telephone number, card or identity."""


def masked_response(response: ServedResponse, policy: PiiSettings, text_share: float = 1.0) -> ServedResponse:
    """The response as it is written.

    Args:
        text_share: the share of responses whose texts are kept.
    """
    if int(response.id[-8:], 16) >= text_share * 2**32:
        return _without_texts(response, NOT_SAMPLED)
    answers = [[answer.text, [dict(call) for call in answer.calls], answer.value] for answer in response.answers]
    try:
        prompt, masked = _masked([dict(response.prompt), answers], policy)
    except PiiRefused as refusal:
        return _without_texts(response, str(refusal.args[0]))
    pairs = zip(response.answers, masked, strict=True)
    kept = tuple(replace(answer, text=text, calls=tuple(calls), value=value) for answer, (text, calls, value) in pairs)
    return replace(response, prompt=prompt, answers=kept)


def masked_feedback(feedback: Feedback, policy: PiiSettings) -> Feedback:
    """The feedback as it is written: a rating stays where the text beside it is refused."""
    try:
        value, explanation = _masked([feedback.value, feedback.explanation], policy)
    except PiiRefused as refusal:
        value = "" if isinstance(feedback.value, str) else feedback.value
        return replace(feedback, value=value, explanation="", omitted=str(refusal.args[0]))
    return replace(feedback, value=value, explanation=explanation)


def _without_texts(response: ServedResponse, why: str) -> ServedResponse:
    answers = tuple(Answer("", answer.reason, answer.tokens) for answer in response.answers)
    family = {"family": response.prompt["family"]} if response.prompt.get("family") else {}
    return replace(response, prompt=family, answers=answers, omitted=why)


def _masked(value: Any, policy: PiiSettings) -> Any:
    """A JSON value with personal data masked in its texts, keys and long numbers."""
    texts = {str(number): text for number, text in enumerate(dict.fromkeys(_texts(value)))}
    edits = mask_texts(texts, policy)
    changed = {texts[name]: apply(texts[name], edits_of_text) for name, edits_of_text in edits.items()}
    return _replaced(value, changed) if changed else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif _is_long_number(value):
        yield str(value)


def _is_long_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and len(str(value)) >= LEAST_DIGITS


def _replaced(value: Any, changed: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return changed.get(value, value)
    if isinstance(value, Mapping):
        return {changed.get(str(key), key): _replaced(item, changed) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(item, changed) for item in value]
    return changed.get(str(value), value) if _is_long_number(value) else value
