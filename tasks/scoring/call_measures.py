"""Tool calls in parts: the names, and the arguments. For reports. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.scoring.answer_parsers import equal_json, parse_calls


def call_measures(answers: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """The share of answers with the names of the target's calls, in order, and with their arguments. An answer that is no call has
    neither. Targets that are no calls, as text that a chat template writes, are left out."""
    pairs = [(parse_calls(answer), parse_calls(target)) for answer, target in zip(answers, targets, strict=True)]
    pairs = [(calls, expected) for calls, expected in pairs if expected is not None]
    if not pairs:
        return {}
    return {
        f"{measure}_accuracy": sum(equal_json(_part(calls, key), _part(expected, key)) for calls, expected in pairs)
        / len(pairs)
        for measure, key in (("name", "name"), ("arguments", "arguments"))
    }


def _part(calls: Any, key: str) -> list[Any] | None:
    return None if calls is None else [call.get(key) for call in calls]
