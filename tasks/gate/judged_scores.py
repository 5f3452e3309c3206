"""The families that the pairwise judge decides: in them `judge_score` (1 won, 0.5 a tie, 0 lost) replaces the score
wherever the two models are compared. Pure."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

COLUMN = "judge_score"
OWN_SCORE = "own_score"
"""The score of the model's answer by its metric."""


def judged_families(metrics: dict[str, Any], reference: str) -> list[str]:
    """The families of metrics.json that the judge may decide, sorted; none if it compared with another model than the reference."""
    judge = metrics.get("judge") or {}
    if judge.get("reference") != reference:
        return []
    return sorted(name for name, family in judge["families"].items() if family["may_decide"] is True)


def with_judged_scores(predictions: pa.Table, families: list[str]) -> pa.Table:
    """The predictions, with the judge's scores as scores in these families, and the model's own as a further column."""
    if not families:
        return predictions
    is_judged = pc.is_in(predictions["family"], value_set=pa.array(families, pa.string()))
    score = pc.if_else(is_judged, predictions[COLUMN], predictions["score"])
    own = predictions.append_column(OWN_SCORE, predictions["score"])
    return own.set_column(own.column_names.index("score"), "score", score)
