"""How far the challenger's answer agrees with the one that was sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.runtime.files import canonical_json
from tasks.scoring.metrics import is_exact_match, token_f1
from tasks.scoring.thoughts import without_thought
from tasks.serve.engine.request import Finished


@dataclass(frozen=True)
class Agreement:
    is_exact: bool
    """Up to case, width, white space and punctuation at the end."""
    token_f1: float
    """Of the first MOST_CHARACTERS of each."""


MOST_CHARACTERS = 4000
"""Of long answers, token F1 takes tens of milliseconds."""


def agreement_of(shadow: Finished, sent: Finished) -> Agreement | None:
    """Of two answers without their thoughts, two labels, or two lists of calls; None for two rewards."""
    if set(shadow.scores) | set(sent.scores) == {"reward"}:
        return None
    one, other = _content(shadow), _content(sent)
    return Agreement(is_exact_match(one, other), token_f1(one[:MOST_CHARACTERS], other[:MOST_CHARACTERS]))


def _content(answer: Finished) -> str:
    if answer.scores:
        return next(iter(answer.scores))
    if answer.calls:
        return canonical_json([[call.get("name"), call.get("arguments")] for call in answer.calls])
    return without_thought(answer.text)
