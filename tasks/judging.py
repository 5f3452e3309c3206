"""Scores of an answer against its target, the same for Chinese and English. Pure.

Both are read by the row's kind (tasks/targets.py); the score is the kind's measure, from 0 to 1. An answer that cannot be read
scores 0. A target that cannot be read is compared as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks import similarity
from tasks.files import canonical_json
from tasks.targets import BARE, Frame, is_unfinished, read_target, spell_target, without_thought
from tasks.text import normalise

CLASSIFICATION = "classification"
ENDING = " .,;:!?。、…"
"""What may end an answer without changing it; fullwidth forms are folded into these by NFKC."""


@dataclass(frozen=True)
class Judged:
    """An answer, read and scored."""

    score: float
    exact: bool
    read: str
    """What it was read as; "" where it could not be read."""
    counts: tuple[int, int, int] | None
    """Of a set (entities, triples): how many were right, said, and wanted."""
    is_unparsed: bool


def plain(text: str) -> str:
    """The text as answers are compared: normalised, without punctuation at its end (unless it is nothing else)."""
    normal = normalise(text)
    return normal.rstrip(ENDING) or normal


def exact_match(answer: str, target: str) -> float:
    """1 where both say the same but for case, width, white space and punctuation at the end, else 0."""
    return float(plain(answer) == plain(target))


def token_f1(answer: str, target: str) -> float:
    """F1 of the tokens that answer and target share (tasks.text.segment: a Chinese character, or a word).

    Where one of them has no token (only punctuation, or nothing), it is exact match.
    """
    score = similarity.token_f1(answer, target)
    return exact_match(answer, target) if score is None else score


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
    said = read_target(kind, answer, frame)
    wanted = read_target(kind, target)
    if wanted is None:  # a target in no form that we know, such as the label "Other" among relations
        score = exact_match(frame.taken_off(answer), target)
        return Judged(score, score == 1, answer if said is None else spell_target(said), None, is_unparsed=False)
    if said is None:
        counts = (0, 0, len(wanted)) if isinstance(wanted, frozenset) else None
        return Judged(0.0, False, "", counts, is_unparsed=True)
    score, exact = _compare(kind, said, wanted)
    counts = (len(said & wanted), len(said), len(wanted)) if isinstance(wanted, frozenset) else None
    return Judged(score, exact, spell_target(said), counts, is_unparsed=False)


def _compare(kind: str, said: Any, wanted: Any) -> tuple[float, bool]:
    """The score, and whether both are the same."""
    if isinstance(wanted, frozenset):
        size = len(said) + len(wanted)
        return (2 * len(said & wanted) / size if size else 1.0), said == wanted
    if kind in ("json", "tool_calls"):
        is_same = canonical_json(said) == canonical_json(wanted)
        return float(is_same), is_same
    is_same = said == wanted if kind == "code" else bool(exact_match(said, wanted))
    if kind == CLASSIFICATION:
        return float(is_same), is_same
    if kind in ("translation", "code"):
        return similarity.chrf(said, wanted), is_same
    if kind == "summary":
        return similarity.rouge_l(said, wanted), is_same
    return token_f1(said, wanted), is_same
