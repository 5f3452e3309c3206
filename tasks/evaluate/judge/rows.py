"""Which of two models' answers to the test rows need the judge, and the score of each row from the verdicts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.evaluate.judge.pair import Pair, PairVerdict, Winner
from tasks.evaluate.predictions import Row
from tasks.scoring.metrics import METRICS

JUDGE_SCORE = "judge_score"
"""Column of the predictions: 1 won, 0.5 a tie, 0 lost against the other model of the round; null where not judged."""
SCORES: dict[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
Method = Literal["judged", "equal", "degenerate", "by_score"]
METHODS: tuple[Method, ...] = ("judged", "equal", "degenerate", "by_score")


@dataclass(frozen=True)
class Comparison:
    """A test row with the candidate's answer (A) and the reference's (B)."""

    row_id: str
    method: Method
    winner: Winner | None
    """None: the judge decides."""
    pair: Pair


def compare_rows(
    candidate: Sequence[Row], reference: Sequence[Row], questions: Mapping[str, str], rubric: str
) -> list[Comparison]:
    """The comparisons of a family, in the order of the candidate's rows.

    Equal answers are a tie, and a degenerate answer loses against one that is not. Answers of a kind that is not compared as text,
    such as the tool calls of a dialogue, are compared by their score.
    """
    by_id = {row["row_id"]: row for row in reference}
    comparisons = []
    for row in candidate:
        other = by_id[row["row_id"]]
        question = questions.get(row["row_id"]) or row["prompt"]
        pair = Pair(rubric, row["language"], question, row["target"], row["read"], other["read"])
        method, winner = _without_judge(row, other)
        comparisons.append(Comparison(row["row_id"], method, winner, pair))
    return comparisons


def is_free_form(row: Row) -> bool:
    return METRICS[row["kind"]].zero_if_degenerate


def decided(comparisons: Sequence[Comparison], verdicts: Sequence[PairVerdict]) -> dict[str, Winner]:
    """Row id → winner, from the comparisons and the verdicts on those that the judge decides, in order."""
    remaining = iter(verdicts)
    return {each.row_id: each.winner if each.winner is not None else next(remaining).winner for each in comparisons}


def _without_judge(row: Row, other: Row) -> tuple[Method, Winner | None]:
    if not is_free_form(row):
        difference = row["score"] - other["score"]
        return "by_score", "tie" if difference == 0 else "A" if difference > 0 else "B"
    if METRICS[row["kind"]].is_equal(row["read"], other["read"]):
        return "equal", "tie"
    if row["degenerate"] is not None or other["degenerate"] is not None:
        both = row["degenerate"] is not None and other["degenerate"] is not None
        return "degenerate", "tie" if both else "B" if row["degenerate"] is not None else "A"
    return "judged", None
