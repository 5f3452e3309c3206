"""Predictions → the numbers of data/reports/metrics.json: by family, class and language. Pure."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tasks.evaluate.class_report import report_classes
from tasks.evaluate.free_text import describe_texts
from tasks.evaluate.perplexity import Loss, perplexity
from tasks.evaluate.predictions import TOO_LONG, Row, bytes_of
from tasks.evaluate.settings import EvaluateSettings
from tasks.pii.patterns import KINDS
from tasks.scoring import statistics
from tasks.scoring.calibration import expected_calibration_error
from tasks.scoring.degenerate_answers import REASONS
from tasks.scoring.metrics import METRICS, Metric
from tasks.scoring.statistics import rounded
from tasks.scoring.thoughts import without_thought


def describe_model(rows: list[Row], settings: EvaluateSettings) -> dict[str, Any]:
    """The entry of a model in metrics.json. `overall` is only there if all rows have one metric: scores of unlike metrics have no
    common mean."""
    families = {
        family: _describe_family(family, members, settings) for family, members in group(rows, "family").items()
    }
    metrics = set(map(_measure, rows))
    overall = {"overall": _scores(rows, settings, "overall")} if len(metrics) == 1 else {}
    return {**overall, "families": families, **_grounding(rows, settings)}


def _grounding(rows: list[Row], settings: EvaluateSettings) -> dict[str, Any]:
    """By family: the share of false answers to questions about a context; empty without such rows."""
    grounded = group((row for row in rows if row["unsupported"] is not None), "family")
    if not grounded:
        return {}
    numbers = {}
    for family, members in grounded.items():
        unsupported = sum(row["unsupported"] for row in members)
        interval = statistics.wilson_interval(unsupported, len(members), settings.confidence)
        share = rounded(unsupported / len(members))
        numbers[family] = {"unsupported": share, "interval": [*map(rounded, interval)], "rows": len(members)}
    return {"grounding": numbers}


def group(rows: Iterable[Row], field: str) -> dict[str, list[Row]]:
    """The rows grouped by `field`, sorted by its values."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[field], []).append(row)
    return dict(sorted(groups.items()))


def _describe_family(family: str, rows: list[Row], settings: EvaluateSettings) -> dict[str, Any]:
    kinds = group(rows, "kind")
    kind = max(kinds, key=lambda name: len(kinds[name]))  # a conversation may end with text or with a tool call
    metric = METRICS[kind]
    described = {
        "kind": kind,
        "measure": ", ".join(dict.fromkeys(_measure(row) for row in kinds[kind])),
        **_scores(rows, settings, family),
        **_exact_match(rows),
        "unparsed": sum(row["is_unparsed"] for row in rows),
        "degenerate": _degenerate(rows),
        "personal_data": _personal_data(rows),
        "target_too_long": sum(row[TOO_LONG] for row in rows),
        "languages": {
            language: _scores(members, settings, f"{family}/{language}")
            for language, members in group(rows, "language").items()
        },
    }
    if len(kinds) > 1:
        described["kinds"] = {
            name: {"measure": METRICS[name].name, **_scores(members, settings, f"{family}/{name}")}
            for name, members in kinds.items()
        }
    if metric.score_key is not None:
        described[metric.score_key] = described["score"]
    if counted := [row for row in rows if row["expected"] is not None]:
        right, predicted, expected = (sum(row[name] for row in counted) for name in ("right", "predicted", "expected"))
        described["micro_f1"] = rounded(2 * right / (predicted + expected) if predicted + expected else 1.0)
    for name, members in kinds.items():
        described |= _corpus_measures(METRICS[name], members)
    described |= describe_texts(rows, f"{settings.seed} {family}")
    return described | _classes(rows) | _calibration(rows) if metric.is_classification else described


def _measure(row: Row) -> str:
    """The name of a row's score: that of its kind, except where its answer was executed."""
    return METRICS[row["kind"]].name if row.get("execution") is None else "tests passed"


def _degenerate(rows: list[Row]) -> dict[str, int]:
    """The number of degenerate answers, in all and by reason."""
    reasons = [row["degenerate"] for row in rows if row["degenerate"] is not None]
    return {"rows": len(reasons), **{reason: reasons.count(reason) for reason in REASONS}}


def _personal_data(rows: list[Row]) -> dict[str, int]:
    """The number of answers with personal data that neither prompt nor target has, in all and by kind."""
    kinds = [row["personal_data"].split(",") for row in rows if row["personal_data"]]
    counts = Counter(kind for each in kinds for kind in each)
    return {"rows": len(kinds), **{kind: counts[kind] for kind in KINDS}}


def _exact_match(rows: list[Row]) -> dict[str, float]:
    exact = [row["exact"] for row in rows if row["exact"] is not None]
    return {"exact_match": rounded(float(np.mean(exact)))} if exact else {}


def _corpus_measures(metric: Metric, rows: list[Row]) -> dict[str, float]:
    if metric.corpus_measures is None:
        return {}
    measures = metric.corpus_measures([row["read"] for row in rows], [without_thought(row["target"]) for row in rows])
    return {name: rounded(number) for name, number in measures.items()}


def _calibration(rows: list[Row]) -> dict[str, float]:
    """Of predictions with a probability: their mean probability, and the expected calibration error."""
    rows = [row for row in rows if row["confidence"] is not None]
    if not rows:
        return {}
    confidence = [row["confidence"] for row in rows]
    error = expected_calibration_error(confidence, [row["exact"] for row in rows])
    return {"confidence": rounded(float(np.mean(confidence))), "ece": rounded(error)}


def _classes(rows: list[Row]) -> dict[str, Any]:
    classes = report_classes([row["read"] for row in rows], [row["target"] for row in rows])
    columns = zip(classes.labels, classes.precision, classes.recall, classes.f1, classes.rows, strict=True)
    return {
        "macro_f1": rounded(classes.macro_f1),
        "weighted_f1": rounded(classes.weighted_f1),
        "per_class": {
            label: {"precision": rounded(precision), "recall": rounded(recall), "f1": rounded(f1), "rows": count}
            for label, precision, recall, f1, count in columns
        },
    }


def _scores(rows: list[Row], settings: EvaluateSettings, name: str) -> dict[str, Any]:
    """The mean score of the rows and its interval; null without rows."""
    scores = np.array([row["score"] for row in rows], dtype=np.float64)
    if not len(scores):
        return {"rows": 0, "score": None, "interval": None}
    interval = statistics.score_interval(
        scores,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=[settings.seed, zlib.crc32(name.encode("utf-8"))],
    )
    return {
        "rows": len(rows),
        "score": rounded(float(scores.mean())),
        "interval": [rounded(interval.low), rounded(interval.high)],
        **_bits(rows),
    }


def _bits(rows: list[Row]) -> dict[str, float]:
    """For texts: bits per byte, over all their bytes."""
    texts = [row for row in rows if row.get("bits") is not None]
    if not texts:
        return {}
    size = sum(bytes_of(row["target"]) for row in texts)
    return {"bits_per_byte": rounded(sum(row["bits"] for row in texts) / max(size, 1))}


def losses_by_family(losses: Sequence[Loss], families: Sequence[str]) -> dict[str, dict[str, float]]:
    """Family → the mean loss (nats) of its answers' tokens, its perplexity, and their number; without tokens: left out."""
    sums: dict[str, Loss] = {}
    for (loss, count), family in zip(losses, families, strict=True):
        total = sums.get(family, (0.0, 0))
        sums[family] = (total[0] + loss, total[1] + count)
    return {
        name: {"loss": rounded(total[0] / total[1]), "perplexity": rounded(ppl), "tokens": total[1]}
        for name, total in sorted(sums.items())
        if (ppl := perplexity([total])) is not None
    }
