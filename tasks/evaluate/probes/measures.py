"""The answers to the rows of the probes → rows of data/predictions/probes, and numbers of metrics.json. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.evaluate.predictions import Row
from tasks.evaluate.probes.additions import obeys
from tasks.evaluate.probes.counterfactual import TO_FIRST, TO_SECOND
from tasks.evaluate.probes.plan import BIAS, Plan
from tasks.evaluate.probes.swap import is_same_swapped
from tasks.evaluate.report import group
from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring.metrics import METRICS
from tasks.scoring.statistics import Interval, bootstrap_interval, difference_interval, rounded

PROBES_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("batch", pa.string()),
        ("family", pa.string()),
        ("kind", pa.string()),
        ("language", pa.string()),
        ("probe", pa.string()),  # `typos`, …, or `bias/` and the name of a list
        ("prompt", pa.string()),
        ("target", pa.string()),
        ("prediction", pa.string()),
        ("score", pa.float64()),
        ("clean_score", pa.float64()),  # of the row without the change
        ("is_obeyed", pa.bool_()),  # the answer has the word that a hidden instruction demands; null for other probes
        ("direction", pa.string()),  # of a swap; null for other probes
        ("differs", pa.bool_()),  # another answer than that of the original row, swapped back; null for other probes
    ]
)


@dataclass(frozen=True)
class ProbeResult:
    """The probes of one model."""

    rows: list[Row]
    """Rows of PROBES_SCHEMA."""
    numbers: dict[str, Any]
    """The entries `robustness` and `bias` in metrics.json."""


def measure_probes(plan: Plan, clean: Sequence[Row], answers: Sequence[Row], settings: EvaluateSettings) -> ProbeResult:
    """The rows and numbers of one model.

    Args:
        clean: the predictions of the test rows.
        answers: the predictions of the plan's rows.
    """
    rows = _rows(plan, clean, answers)
    return ProbeResult(rows, describe_probes(plan, rows, settings))


def _rows(plan: Plan, clean: Sequence[Row], answers: Sequence[Row]) -> list[Row]:
    fields = set(PROBES_SCHEMA.names)
    rows = []
    for planned, answer in zip(plan.rows, answers, strict=True):
        own = clean[planned.index]
        differs = None
        if planned.probe.startswith(BIAS):
            differs = not is_same_swapped(own["read"], answer["read"], planned.probe.removeprefix(BIAS))
        rows.append(
            {
                **{name: value for name, value in answer.items() if name in fields},
                "probe": planned.probe,
                "clean_score": own["score"],
                "is_obeyed": None if planned.canary is None else obeys(answer["prediction"], planned.canary),
                "direction": planned.direction,
                "differs": differs,
            }
        )
    return rows


def describe_probes(plan: Plan, rows: Sequence[Row], settings: EvaluateSettings) -> dict[str, Any]:
    """The entries `robustness` and `bias` of a model in metrics.json; empty without probes."""
    by_probe = group(rows, "probe")
    numbers: dict[str, Any] = {}
    for probe in plan.probes:
        members = by_probe.get(probe, [])
        topic = "bias" if probe.startswith(BIAS) else "robustness"
        numbers.setdefault(topic, {})[probe.removeprefix(BIAS)] = {
            **_measure(members, probe, settings),
            "skipped": plan.skipped[probe],
            **{
                field: {name: _measure(part, f"{probe}/{name}", settings) for name, part in group(members, key).items()}
                for field, key in (("families", "family"), ("languages", "language"))
            },
        }
    return numbers


def _measure(rows: Sequence[Row], name: str, settings: EvaluateSettings) -> dict[str, Any]:
    """The numbers of rows; those of scores are null if the rows have unlike metrics, whose scores have no common mean."""
    numbers = (_gap if name.startswith(BIAS) else _drop)(rows, name, settings)
    if len({METRICS[row["kind"]].name for row in rows}) > 1:
        numbers |= dict.fromkeys(numbers.keys() - {"rows", "obeyed", "answers_differ"})
    return numbers


def _drop(rows: Sequence[Row], name: str, settings: EvaluateSettings) -> dict[str, Any]:
    """The mean score with and without the change, and the drop with its paired interval."""
    obeyed = [row["is_obeyed"] for row in rows if row["is_obeyed"] is not None]
    extra = {"obeyed": _mean(obeyed)} if name.startswith("injection") else {}
    if not rows:
        return {"score": None, "clean": None, "drop": None, "interval": None, "rows": 0, **extra}
    changed, clean = (np.array([row[key] for row in rows], np.float64) for key in ("score", "clean_score"))
    interval = difference_interval(
        changed, clean, confidence=settings.confidence, samples=settings.bootstrap_samples, seed=_seed(settings, name)
    )
    return {
        "score": _mean(changed),
        "clean": _mean(clean),
        "drop": _mean(clean - changed),
        "interval": _numbers(interval),
        "rows": len(rows),
        **extra,
    }


def _gap(rows: Sequence[Row], name: str, settings: EvaluateSettings) -> dict[str, Any]:
    """The mean absolute difference of the scores within the pairs, the mean change by direction, and how many answers differ."""
    changes = np.array([row["score"] - row["clean_score"] for row in rows], np.float64)
    gaps = np.abs(changes)
    interval = None
    if rows:
        interval = _numbers(
            bootstrap_interval(
                *(gaps, 0.0, 1.0),
                confidence=settings.confidence,
                samples=settings.bootstrap_samples,
                seed=_seed(settings, name),
            )
        )
    directions = {
        direction: _mean(change for row, change in zip(rows, changes, strict=True) if row["direction"] == direction)
        for direction in (TO_SECOND, TO_FIRST)
    }
    differ = _mean(row["differs"] for row in rows)
    return {"gap": _mean(gaps), "interval": interval, **directions, "answers_differ": differ, "rows": len(rows)}


def _mean(numbers: Any) -> float | None:
    values = [float(number) for number in numbers]
    return rounded(sum(values) / len(values)) if values else None


def _numbers(interval: Interval) -> list[float]:
    return [*map(rounded, interval)]


def _seed(settings: EvaluateSettings, name: str) -> list[int]:
    return [settings.seed, zlib.crc32(name.encode("utf-8"))]
