"""Scores of an answer against its target, the same for Chinese and English. Pure.

Both are parsed and compared by the metric of the row's kind (metrics.py). An answer that cannot be parsed scores 0, and so does one
that ends in a loop (answer_loops.py). A target that cannot be parsed is compared as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.errors import ConfigError
from tasks.scoring.answer_loops import ends_in_loop
from tasks.scoring.metrics import METRICS, Metric, is_exact_match
from tasks.scoring.targets import NO_FRAME, Frame, parse_answer, text_of
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
    is_looping: bool = False
    """It scores 0 because it ends in a loop."""


def score_answer(kind: str, answer: str, target: str, frame: Frame = NO_FRAME) -> ScoredAnswer:
    """Parses an answer and its target, and compares them, both without the thought before the answer.

    Args:
        frame: the constant text that the row's template writes around the target.

    Raises:
        ConfigError: a plugin's metric returned no score from 0 to 1.
    """
    answer = "" if is_unfinished(answer) and not is_unfinished(target) else without_thought(answer)
    target = without_thought(target)
    predicted = parse_answer(kind, answer, frame)
    expected = parse_answer(kind, target)
    if expected is None:  # no form of its kind, such as the label "Other" among relations
        is_exact = is_exact_match(frame.remove_from(answer), target)
        parsed = answer if predicted is None else text_of(predicted)
        return ScoredAnswer(float(is_exact), is_exact, parsed, None, is_unparsed=False)
    if predicted is None:
        counts = (0, 0, len(expected)) if isinstance(expected, frozenset) else None
        return ScoredAnswer(0.0, False, "", counts, is_unparsed=True)
    counts = (len(predicted & expected), len(predicted), len(expected)) if isinstance(expected, frozenset) else None
    metric = METRICS[kind]
    is_exact = metric.is_equal(predicted, expected)
    if metric.zero_if_looping and not is_exact and ends_in_loop(predicted, expected):
        return ScoredAnswer(0.0, False, text_of(predicted), counts, is_unparsed=False, is_looping=True)
    score = 1.0 if is_exact else _partial_score(kind, metric, predicted, expected)
    return ScoredAnswer(score, is_exact, text_of(predicted), counts, is_unparsed=False)


def _partial_score(kind: str, metric: Metric, predicted: Any, expected: Any) -> float:
    score = metric.partial_score(predicted, expected) if metric.partial_score else 0.0
    if not 0 <= score <= 1:
        raise ConfigError(
            f"`partial_score` returned {score}", where=f"metric of the kind `{kind}`", fix="Return a number from 0 to 1"
        )
    return score
