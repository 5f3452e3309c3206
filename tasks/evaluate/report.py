"""Predictions → the numbers of data/reports/metrics.json: a model overall, a family, a class, a language. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tasks import statistics
from tasks.evaluate.metrics import CLASSIFICATION, judge_answer, report_classes
from tasks.evaluate.settings import EvaluateSettings
from tasks.targets import MEASURES, Frame

Row = dict[str, Any]
"""A row of data/predictions/<role>.parquet."""

TEST_FIELDS = ("row_id", "batch", "family", "kind", "language", "prompt", "target")


def score_rows(test: list[Row], answers: list[str]) -> list[Row]:
    """The predictions of one model: each test row with its answer, what it was read as, and its score."""
    rows = []
    for row, answer in zip(test, answers, strict=True):
        judged = judge_answer(row["kind"], answer, row["target"], Frame(row.get("before", ""), row.get("after", "")))
        right, said, wanted = judged.counts or (None, None, None)
        rows.append(
            {name: row[name] for name in TEST_FIELDS}
            | {"prediction": answer, "read": judged.read, "is_unparsed": judged.is_unparsed}
            | {"score": judged.score, "exact": judged.exact, "right": right, "said": said, "wanted": wanted}
        )
    return rows


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
    kinds = group(rows, "kind")
    kind = max(kinds, key=lambda name: len(kinds[name]))  # a dialogue may end in words, or in a call of a tool
    described = {
        "kind": kind,
        "measure": MEASURES[kind],
        **_scores(rows, settings, family),
        "exact_match": rounded(float(np.mean([row["exact"] for row in rows]))),
        "unparsed": sum(row["is_unparsed"] for row in rows),
        "languages": {
            language: _scores(members, settings, f"{family}/{language}")
            for language, members in group(rows, "language").items()
        },
    }
    if len(kinds) > 1:
        described["kinds"] = {
            name: {"measure": MEASURES[name], **_scores(members, settings, f"{family}/{name}")}
            for name, members in kinds.items()
        }
    if MEASURES[kind] == "token F1":
        described["token_f1"] = described["score"]
    if counted := [row for row in rows if row["wanted"] is not None]:
        right, said, wanted = (sum(row[name] for row in counted) for name in ("right", "said", "wanted"))
        described["micro_f1"] = rounded(2 * right / (said + wanted) if said + wanted else 1.0)
    return described | _classes(rows) if kind == CLASSIFICATION else described


def _classes(rows: list[Row]) -> dict[str, Any]:
    classes = report_classes([row["read"] for row in rows], [row["target"] for row in rows])
    columns = zip(classes.labels, classes.precision, classes.recall, classes.f1, classes.rows, strict=True)
    return {
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
