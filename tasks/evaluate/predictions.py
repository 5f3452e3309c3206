"""The inputs of an evaluation, and the rows of data/predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tasks.evaluate.settings import EvaluateSettings
from tasks.pii.mask import kinds_in
from tasks.runtime.progress import Progress
from tasks.scoring.grounding import is_unsupported
from tasks.scoring.read_answer import complete_answer
from tasks.scoring.score import score_answer
from tasks.scoring.targets import Frame

Row = dict[str, Any]
"""A row of data/rendered/test.parquet, or of data/predictions/<role>.parquet."""

TEST_FIELDS = ("row_id", "batch", "source", "use", "family", "kind", "language", "prompt", "target")
TOO_LONG = "is_target_too_long"
"""Key of a row: its target does not fit in `evaluate.max_new_tokens`. Its answer is not degenerate because it is cut off."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("batch", pa.string()),
        ("source", pa.string()),
        ("use", pa.string()),  # "golden" or "train"
        ("family", pa.string()),
        ("kind", pa.string()),
        ("language", pa.string()),
        ("prompt", pa.string()),
        ("target", pa.string()),
        ("prediction", pa.string()),
        ("is_cut", pa.bool_()),  # it reached evaluate.max_new_tokens without an end token
        (TOO_LONG, pa.bool_()),  # its target does not fit in evaluate.max_new_tokens
        ("read", pa.string()),  # the parsed prediction (tasks/scoring/metrics.py)
        ("is_unparsed", pa.bool_()),
        ("degenerate", pa.string()),  # why it scores 0 (tasks/scoring/degenerate_answers.py); else null
        ("personal_data", pa.string()),  # kinds that neither prompt nor target has, such as `email,phone`; else null
        ("unsupported", pa.bool_()),  # an answer that its context does not carry; null unless `qa` with a context
        ("similarity", pa.float64()),  # cosine with the target by evaluate.encoder; null without one, or if not text
        ("confidence", pa.float64()),  # the probability of a head's label; null for other predictions
        ("execution", pa.string()),  # "passed", or why code did not pass its tests; null if it was not executed
        ("execution_error", pa.string()),  # the error that ended it
        ("score", pa.float64()),
        ("exact", pa.bool_()),  # null where undefined
        ("bits", pa.float64()),  # negative log2 likelihood of a text; null for other kinds
        ("right", pa.int64()),  # correct, predicted and expected entities or triples; null for other kinds
        ("predicted", pa.int64()),
        ("expected", pa.int64()),
        ("judge_score", pa.float64()),  # 1 won, 0.5 a tie, 0 lost, by the judge (evaluate.judge); null where not judged
    ]
)


@dataclass(frozen=True)
class EvaluationTask:
    test: list[Row]
    tokenizer: Any
    base_digest: str
    settings: EvaluateSettings
    progress: Progress
    """Counts test rows."""


def score_rows(test: Sequence[Row], answers: Sequence[str], is_cut: Sequence[bool] | None = None) -> list[Row]:
    """The predictions of one model: each test row with its answer, the parsed answer and its score.

    Args:
        is_cut: whether each answer reached the token limit; without it: none did.
    """
    rows = []
    for row, answer, cut in zip(test, answers, is_cut or [False] * len(answers), strict=True):
        complete = complete_answer(answer, row.get("opens_thought"))
        is_too_long = bool(row.get(TOO_LONG))
        scored = score_answer(
            row["kind"],
            complete,
            row["target"],
            Frame(row.get("before", ""), row.get("after", "")),
            question=row.get("question") or "",
            is_cut=cut and not is_too_long,
        )
        right, predicted, expected = scored.counts or (None, None, None)
        counted = {"right": right, "predicted": predicted, "expected": expected}
        parsed = {
            "is_cut": cut,
            TOO_LONG: is_too_long,
            "read": scored.parsed,
            "is_unparsed": scored.is_unparsed,
            "degenerate": scored.degenerate,
            "personal_data": ",".join(kinds_in(answer, row["prompt"], row["target"])) or None,
            "unsupported": is_unsupported(scored.parsed, row["target"], row["prompt"]) if _has_context(row) else None,
        }
        rows.append(score_row(row, answer, scored.score, exact=scored.exact) | parsed | counted)
    return rows


def _has_context(row: Row) -> bool:
    """Whether the row is a question about a text."""
    return row["kind"] == "qa" and bool((row.get("instruction") or "").strip() and (row.get("input") or "").strip())


def score_row(row: Row, prediction: str, score: float, exact: bool | None = None) -> Row:
    """A prediction that needs no parsing.

    Args:
        score: from 0 to 1.
        exact: whether it is entirely correct; None where this is undefined.
    """
    fixed = {name: row.get(name) for name in TEST_FIELDS}
    flags = {"is_cut": False, TOO_LONG: False, "is_unparsed": False, "degenerate": None, "personal_data": None}
    parsed = {"prediction": prediction, "read": prediction, "unsupported": None}
    counted = {"similarity": None, "confidence": None, "bits": None, "right": None, "predicted": None, "expected": None}
    return fixed | parsed | flags | {"score": score, "exact": exact} | counted


def bytes_of(text: str) -> int:
    """The length of a text in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))
