"""The numbers of executed answers: `models.<role>.code.<family>` in metrics.json, and the rows of sampled answers."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.evaluate.predictions import Row
from tasks.sandbox.run_programs import REASONS, Outcome
from tasks.scoring.code_answers import pass_at_k
from tasks.scoring.statistics import rounded, score_interval

if TYPE_CHECKING:
    from tasks.evaluate.settings import EvaluateSettings

SAMPLES_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("family", pa.string()),
        ("sample", pa.int64()),  # from 0
        ("prediction", pa.string()),
        ("execution", pa.string()),
        ("execution_error", pa.string()),
    ]
)
"""A sampled answer (data/predictions/<role>.code_samples.parquet)."""


def sample_rows(
    samples: Mapping[str, Sequence[str]], families: Mapping[str, str], outcomes: Mapping[tuple[str, str], Outcome]
) -> list[Row]:
    """The rows of SAMPLES_SCHEMA.

    Args:
        samples: row id → sampled answers.
        families: row id → family.
    """
    rows = []
    for row_id, answers in samples.items():
        for index, answer in enumerate(answers):
            outcome = outcomes[row_id, answer]
            shown = {"prediction": answer, "execution": outcome.reason, "execution_error": outcome.detail or None}
            rows.append({"row_id": row_id, "family": families[row_id], "sample": index, **shown})
    return rows


def describe_code(rows: Sequence[Row], samples: Sequence[Row], settings: EvaluateSettings) -> dict[str, Any]:
    """Family → pass@1 of its greedy answers, and pass@k of its sampled ones; empty without executed answers."""
    executed = [row for row in rows if row.get("execution")]
    families: dict[str, Any] = {}
    for family in sorted({row["family"] for row in executed}):
        reasons = [row["execution"] for row in executed if row["family"] == family]
        families[family] = {
            "rows": len(reasons),
            **_mean("pass_at_1", [float(reason == "passed") for reason in reasons], family, settings),
            "outcomes": {reason: reasons.count(reason) for reason in REASONS},
        }
        if of_family := [row for row in samples if row["family"] == family]:
            families[family]["sampled"] = _describe_samples(of_family, family, settings)
    return {"code": families} if families else {}


def _describe_samples(samples: Sequence[Row], family: str, settings: EvaluateSettings) -> dict[str, Any]:
    totals = Counter(row["row_id"] for row in samples)
    passed = Counter(row["row_id"] for row in samples if row["execution"] == "passed")
    reasons = Counter(row["execution"] for row in samples)
    return {
        "rows": len(totals),
        "samples": settings.code.samples,
        "outcomes": {reason: reasons[reason] for reason in REASONS},
        **{
            f"pass_at_{k}": {"rows": len(totals)}
            | _mean(
                "score", [pass_at_k(totals[row_id], passed[row_id], k) for row_id in totals], f"{family} {k}", settings
            )
            for k in sorted(set(settings.code.pass_at))
        },
    }


def _mean(name: str, values: Sequence[float], seed: str, settings: EvaluateSettings) -> dict[str, Any]:
    scores = np.array(values, dtype=np.float64)
    interval = score_interval(
        scores,
        confidence=settings.confidence,
        samples=settings.bootstrap_samples,
        seed=[settings.seed, zlib.crc32(seed.encode())],
    )
    return {name: rounded(float(scores.mean())), "interval": [rounded(bound) for bound in interval]}
