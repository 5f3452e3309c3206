"""Predictions → the numbers of data/reports/metrics.json: a model overall, a family, a class, a language. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tasks import statistics
from tasks.evaluate.metrics import CLASSIFICATION, exact_match, report_classes, score_answer
from tasks.evaluate.settings import EvaluateSettings

Row = dict[str, Any]
"""A row of data/predictions/<role>.parquet."""

TEST_FIELDS = ("row_id", "batch", "family", "kind", "language", "prompt", "target")


def score_rows(test: list[Row], answers: list[str]) -> list[Row]:
    """The predictions of one model: each test row with its answer, its score, and whether it is an exact match."""
    return [
        {name: row[name] for name in TEST_FIELDS}
        | {
            "prediction": answer,
            "score": score_answer(row["kind"], answer, row["target"]),
            "exact": bool(exact_match(answer, row["target"])),
        }
        for row, answer in zip(test, answers, strict=True)
    ]


def describe_model(rows: list[Row], settings: EvaluateSettings) -> dict[str, Any]:
    """What metrics.json says of a model's answers."""
    return {
        "overall": _scores(rows, settings, "overall"),
        "families": {
            family: _describe_family(family, members, settings) for family, members in group(rows, "family").items()
        },
    }


def group(rows: Iterable[Row], field: str) -> dict[str, list[Row]]:
    """The rows by the value of `field`, in its order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[field], []).append(row)
    return dict(sorted(groups.items()))


def _describe_family(family: str, rows: list[Row], settings: EvaluateSettings) -> dict[str, Any]:
    kind = rows[0]["kind"]
    described = {
        "kind": kind,
        **_scores(rows, settings, family),
        "exact_match": rounded(float(np.mean([row["exact"] for row in rows]))),
        "languages": {
            language: _scores(members, settings, f"{family}/{language}")
            for language, members in group(rows, "language").items()
        },
    }
    if kind != CLASSIFICATION:
        return described | {"token_f1": described["score"]}
    classes = report_classes([row["prediction"] for row in rows], [row["target"] for row in rows])
    columns = zip(classes.labels, classes.precision, classes.recall, classes.f1, classes.rows, strict=True)
    return described | {
        "macro_f1": rounded(classes.macro_f1),
        "per_class": {
            label: {"precision": rounded(precision), "recall": rounded(recall), "f1": rounded(f1), "rows": count}
            for label, precision, recall, f1, count in columns
        },
    }


def _scores(rows: list[Row], settings: EvaluateSettings, name: str) -> dict[str, Any]:
    """The mean score of some rows, and its interval; null where there are none."""
    scores = np.array([row["score"] for row in rows], dtype=np.float64)
    if not len(scores):
        return {"rows": 0, "score": None, "interval": None}
    interval = statistics.score_interval(
        scores,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=[abs(settings.seed), zlib.crc32(name.encode("utf-8"))],
    )
    return {
        "rows": len(rows),
        "score": rounded(float(scores.mean())),
        "interval": [rounded(interval.low), rounded(interval.high)],
    }


def rounded(number: float) -> float:
    """Six significant digits: enough to read, and equal on machines that differ in the last bit."""
    return float(f"{number:.6g}")
