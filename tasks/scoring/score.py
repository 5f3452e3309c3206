"""Scores of an answer against its target, the same for Chinese and English. Pure.

Both are parsed and compared by the metric of the row's kind (metrics.py). An answer that cannot be parsed scores 0, and so does a
degenerate one (degenerate_answers.py). A target that cannot be parsed is compared as text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tasks.errors import ConfigError
from tasks.scoring.degenerate_answers import Reason, degenerate_reason
from tasks.scoring.metrics import METRICS, Metric, is_exact_match
from tasks.scoring.read_answer import ReadAnswer, read_answer
from tasks.scoring.targets import NO_FRAME, Frame, parse_answer
from tasks.scoring.thoughts import is_unfinished, without_thought


@dataclass(frozen=True)
class ScoredAnswer:
    """A parsed answer and its score."""

    score: float
    exact: bool
    parsed: str
    """The parsed answer as text; "" if it could not be parsed."""
    counts: tuple[int, int, int] | None
    """Of a set (entities, triples): the number of right, predicted and expected elements."""
    is_unparsed: bool
    degenerate: Reason | None = None
    """Why it scores 0 without a comparison (degenerate_answers.py)."""


def score_answer(
    kind: str, answer: str, target: str, frame: Frame = NO_FRAME, *, question: str = "", is_cut: bool = False
) -> ScoredAnswer:
    """Parses an answer and its target, and compares them, both without the thought before the answer.

    Args:
        frame: the constant text that the row's template writes around the target.
        question: the last turn of the user.
        is_cut: whether the token limit ended the answer, although the target is shorter than the limit.

    Raises:
        ConfigError: a plugin's metric returned no score from 0 to 1.
    """
    read = read_answer(kind, answer, frame, ends_in_thought=is_unfinished(target))
    scored = _compare(read, without_thought(target), frame, question, is_cut)
    is_thought_only = is_unfinished(answer) and not is_unfinished(target)
    return (
        replace(scored, degenerate="cut_off") if is_thought_only and is_cut and scored.degenerate == "empty" else scored
    )


def _compare(read: ReadAnswer, target: str, frame: Frame, question: str, is_cut: bool) -> ScoredAnswer:
    kind, answer, predicted = read.kind, read.answer, read.value
    expected = parse_answer(kind, target)
    empty: Reason | None = None if answer.strip() or not target.strip() else "empty"
    if expected is None:  # no form of its kind, such as the label "Other" among relations
        is_exact = is_exact_match(frame.remove_from(answer), target)
        parsed = answer if predicted is None else read.text
        return ScoredAnswer(float(is_exact), is_exact, parsed, None, is_unparsed=False, degenerate=empty)
    if predicted is None:
        counts = (0, 0, len(expected)) if isinstance(expected, frozenset) else None
        return ScoredAnswer(0.0, False, "", counts, is_unparsed=True, degenerate=empty)
    counts = (len(predicted & expected), len(predicted), len(expected)) if isinstance(expected, frozenset) else None
    metric = METRICS[kind]
    is_exact = metric.is_equal(predicted, expected)
    if metric.zero_if_degenerate and not is_exact:
        reason = degenerate_reason(predicted, expected, question, is_cut=is_cut, compares_scripts=metric.is_prose)
        if reason is not None:
            return ScoredAnswer(0.0, False, read.text, counts, is_unparsed=False, degenerate=reason)
    score = 1.0 if is_exact else _partial_score(kind, metric, predicted, expected)
    return ScoredAnswer(score, is_exact, read.text, counts, is_unparsed=False)


def _partial_score(kind: str, metric: Metric, predicted: Any, expected: Any) -> float:
    score = metric.partial_score(predicted, expected) if metric.partial_score else 0.0
    if not 0 <= score <= 1:
        raise ConfigError(
            f"`partial_score` returned {score}", where=f"metric of the kind `{kind}`", fix="Return a number from 0 to 1"
        )
    return score
