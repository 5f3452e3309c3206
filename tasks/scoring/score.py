"""Scores of an answer against its target, the same for Chinese and English. Pure.

Both are read by the row's kind (targets.py); the score is the kind's measure, from 0 to 1. An answer that cannot be read scores 0,
and so does one that ends in a loop (answer_loops.py). A target that cannot be read is compared as text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.scoring import text_metrics
from tasks.scoring.answer_loops import ends_in_loop
from tasks.scoring.answer_parsers import equal_json
from tasks.scoring.answer_text import plain, spell
from tasks.scoring.targets import BARE, Frame, is_unfinished, read_target, spell_target, without_thought

CLASSIFICATION = "classification"


@dataclass(frozen=True)
class Judged:
    """An answer, read and scored."""

    score: float
    exact: bool
    read: str
    """What it was read as; "" where it could not be read."""
    counts: tuple[int, int, int] | None
    """Of a set (entities, triples): how many were right, predicted, and expected."""
    is_unparsed: bool
    is_looping: bool = False
    """It scores 0 because it ends in a loop."""


def exact_match(answer: str, target: str) -> float:
    """1 where both say the same but for case, width, white space and punctuation at the end, else 0."""
    return float(plain(answer) == plain(target))


def token_f1(answer: str, target: str) -> float:
    """F1 of the tokens that answer and target share (tasks.scoring.answer_tokens); 1 where they match exactly.

    Where one of them has no token (only punctuation, or nothing), it is exact match.
    """
    score = text_metrics.token_f1(answer, target)
    return exact_match(answer, target) or score or 0.0


def score_answer(kind: str, answer: str, target: str) -> float:
    """The score by which models are compared, from 0 to 1."""
    return judge_answer(kind, answer, target).score


def judge_answer(kind: str, answer: str, target: str, frame: Frame = BARE) -> Judged:
    """Reads an answer and its target, and scores the one against the other; what either thought before it answered is left out.

    Args:
        frame: what the row's template writes around the target.
    """
    answer = "" if is_unfinished(answer) and not is_unfinished(target) else without_thought(answer)
    target = without_thought(target)
    predicted = read_target(kind, answer, frame)
    expected = read_target(kind, target)
    if expected is None:  # a target in no form that we know, such as the label "Other" among relations
        score = exact_match(frame.taken_off(answer), target)
        return Judged(
            score, score == 1, answer if predicted is None else spell_target(predicted), None, is_unparsed=False
        )
    if predicted is None:
        counts = (0, 0, len(expected)) if isinstance(expected, frozenset) else None
        return Judged(0.0, False, "", counts, is_unparsed=True)
    counts = (len(predicted & expected), len(predicted), len(expected)) if isinstance(expected, frozenset) else None
    score, is_exact = _compare(kind, predicted, expected)
    if kind in _OVERLAP and not is_exact and ends_in_loop(predicted, expected):
        return Judged(0.0, False, spell_target(predicted), counts, is_unparsed=False, is_looping=True)
    return Judged(score, is_exact, spell_target(predicted), counts, is_unparsed=False)


def _compare(kind: str, predicted: Any, expected: Any) -> tuple[float, bool]:
    """The score, and whether both are the same."""
    if isinstance(expected, frozenset):
        size = len(predicted) + len(expected)
        return (2 * len(predicted & expected) / size if size else 1.0), predicted == expected
    if kind in ("json", "tool_calls"):
        is_same = equal_json(predicted, expected)
    else:
        is_same = predicted == expected if kind == "code" else bool(exact_match(predicted, expected))
    if is_same or kind not in _OVERLAP:
        return float(is_same), is_same
    return _OVERLAP[kind](predicted, expected), False


_OVERLAP: dict[str, Callable[[str, str], float]] = {
    "qa": token_f1,
    "free": token_f1,
    "summary": text_metrics.rouge_l,
    "translation": lambda predicted, expected: text_metrics.chrf(spell(predicted), spell(expected)),
    "code": lambda predicted, expected: text_metrics.chrf(predicted, expected, with_spaces=True),
}
"""How answers of these kinds are scored that are not the same as their target."""
