"""The test rows of a run with the answers of its models, and the confusion matrices of its classifications."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks import paths
from tasks.evaluate.class_report import OTHER, report_classes

ROLES = ("base", "champion", "candidate")
MOST_ANSWERS = 2000
"""Rows in the page; those whose score changed most are kept."""
LONGEST_TEXT = 4000
MOST_CLASSES = 25


@dataclass(frozen=True)
class Confusion:
    labels: list[str]
    """Labels of the test rows (rows of the matrix); its columns are these, and `(other)`."""
    counts: list[list[int]]
    left_out: int
    """Rarer labels that are not in the matrix."""


def read_predictions() -> dict[str, pa.Table]:
    """Role → its predictions, in the order of the candidate's rows by id; empty without predictions."""
    tables = {}
    for role in ROLES:
        path = paths.PREDICTIONS / f"{role}.parquet"
        if path.is_file():
            with pq.ParquetFile(path) as file:
                tables[role] = file.read().sort_by("row_id")
    return tables if "candidate" in tables else {}


def scores_by_role(tables: Mapping[str, pa.Table], column: str = "score") -> dict[str, NDArray[np.float64]]:
    """Role → its score of each of the candidate's rows; NaN where it has none."""
    ids = tables["candidate"]["row_id"].to_pylist()
    scores = {}
    for role, table in tables.items():
        by_id = dict(zip(table["row_id"].to_pylist(), table[column].to_pylist(), strict=True))
        values = [by_id.get(row_id) for row_id in ids]
        scores[role] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return scores


def answers_of(
    tables: Mapping[str, pa.Table], reference: str, judged: Collection[str] = ()
) -> tuple[list[dict[str, Any]], int]:
    """The rows for the page, the largest change of the score first, and the number of rows that are left out.

    Args:
        judged: the families whose answers the gate compared by the judge's verdicts.
    """
    candidate = tables["candidate"]
    scores = scores_by_role(tables)
    change = scores["candidate"] - scores.get(reference, scores["candidate"])
    if judged and reference in tables:
        verdicts = scores_by_role({role: tables[role] for role in ("candidate", reference)}, "judge_score")
        is_judged = np.isin(np.array(candidate["family"].to_pylist()), sorted(judged))
        change = np.where(is_judged, verdicts["candidate"] - verdicts[reference], change)
    order = np.lexsort((np.arange(len(change)), -np.abs(np.nan_to_num(change))))[:MOST_ANSWERS]
    texts = {
        role: dict(zip(table["row_id"].to_pylist(), table["prediction"].to_pylist(), strict=True))
        for role, table in tables.items()
    }
    rows = []
    for index, row in zip(order.tolist(), candidate.take(pa.array(order)).to_pylist(), strict=True):
        row_id = row["row_id"]
        answers = {role: _cut(texts[role].get(row_id)) for role in tables if row_id in texts[role]}
        rows.append(
            {
                "id": row_id,
                "family": row["family"],
                "language": row["language"],
                "prompt": _cut(row["prompt"]),
                "target": _cut(row["target"]),
                "answers": answers,
                "scores": {role: _number(scores[role][index]) for role in answers},
                "judged": row["family"] in judged,
                "outcome": _outcome(change[index], answers, reference),
                "degenerate": row.get("degenerate") or "",
                "execution": ": ".join(filter(None, (row.get("execution"), row.get("execution_error")))),
            }
        )
    return rows, candidate.num_rows - len(rows)


def confusion_of(rows: pa.Table) -> Confusion:
    """Labels of the test rows against the model's answers; the most frequent labels if there are many."""
    classes = report_classes(rows["read"].to_pylist(), rows["target"].to_pylist())
    counts = np.array(classes.confusion, dtype=np.int64).reshape(len(classes.labels), len(classes.labels) + 1)
    kept = sorted(np.argsort(-np.array(classes.rows), kind="stable")[:MOST_CLASSES].tolist())
    others = [index for index in range(len(classes.labels) + 1) if index not in kept]
    columns = np.column_stack([counts[kept][:, kept], counts[kept][:, others].sum(axis=1)])
    return Confusion([classes.labels[index] for index in kept], columns.tolist(), len(classes.labels) - len(kept))


def column_names(confusion: Confusion) -> list[str]:
    return [*confusion.labels, OTHER]


def _outcome(change: float, answers: Mapping[str, str], reference: str) -> str:
    if np.isnan(change) or reference not in answers:
        return ""
    if change:
        return "won" if change > 0 else "lost"
    return "same" if answers[reference] == answers["candidate"] else "changed"


def _cut(text: str | None) -> str:
    text = text or ""
    more = len(text) - LONGEST_TEXT
    return text if more <= 0 else f"{text[:LONGEST_TEXT]} … ({more:,} more characters)"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
