"""The thought that a reasoning model writes before its answer. Pure."""

from __future__ import annotations

THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"
"""The tags around a thought at the beginning of an answer."""


def without_thought(answer: str) -> str:
    """The answer after its thought, if it begins with a complete one. A tag elsewhere in an answer is text."""
    text = answer.lstrip()
    return (
        text.partition(THOUGHT_ENDS)[2].strip() if text.startswith(THOUGHT_BEGINS) and THOUGHT_ENDS in text else answer
    )


def is_unfinished(answer: str) -> bool:
    """Whether an answer ends within its thought."""
    text = answer.lstrip()
    return text.startswith(THOUGHT_BEGINS) and THOUGHT_ENDS not in text
