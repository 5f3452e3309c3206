"""Tests of a model beside its test rows: anchors and tasks of lm-eval, which measure forgetting, and rows with examples (few-shot).

tests = open_tests(config.evaluate)      # errors of settings and files, before hours of inference
result = tests.run(model, task)          # of each model
tests.write(results)                     # data/predictions/{anchors,shots,lm_eval}/<role>.parquet
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset.rendered import ANCHORS, FURTHER_TESTS, SHOTS
from tasks.errors import DataError
from tasks.evaluate.answers import predict_answers
from tasks.evaluate.forgetting_settings import ANCHORS as ANCHORS_NAME
from tasks.evaluate.inference import LazyModel
from tasks.evaluate.lm_eval_tasks import describe_tasks, require_tasks, run_tasks
from tasks.evaluate.predictions import PREDICTIONS_SCHEMA, EvaluationTask, Row
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.runtime.files import read_json, write_parquet
from tasks.scoring.resampling import Scores
from tasks.scoring.statistics import difference_interval, rounded, score_interval

Entry = dict[str, Any]
SCHEMA = PREDICTIONS_SCHEMA.append(pa.field("shots", pa.int32()))
TASK_VALUES_SCHEMA = pa.schema(
    [("task", pa.string()), ("metric", pa.string()), ("row", pa.int32()), ("value", pa.float64())]
)
"""The value of a row of a task of lm-eval. It has no text: `row` is its number in the task's data, from 0."""


@dataclass(frozen=True)
class FurtherResult:
    """The answers and numbers of one model."""

    rows: dict[str, list[Row]]
    """ "anchors" or "shots" → its predictions."""
    tasks: dict[str, Entry]
    """Task of lm-eval → its numbers."""


@dataclass(frozen=True)
class FurtherTests:
    settings: EvaluateSettings
    rows: dict[str, list[Row]]
    """ "anchors" or "shots" → its rows, if they are set."""

    @property
    def count(self) -> int:
        """Answers of a model."""
        return sum(map(len, self.rows.values()))

    def run(self, model: LazyModel, task: EvaluationTask) -> FurtherResult:
        answers = {name: predict_answers(model, replace(task, test=rows))[1] for name, rows in self.rows.items()}
        for name, rows in self.rows.items():
            answers[name] = [
                answer | {"shots": row.get("shots")} for answer, row in zip(answers[name], rows, strict=True)
            ]
        return FurtherResult(answers, run_tasks(model, task) if self.settings.lm_eval else {})

    def describe(self, results: Mapping[str, FurtherResult]) -> dict[str, Entry]:
        """Role → its entries `forgetting` and `shots` of metrics.json."""
        return {
            role: _without_empty(
                {
                    "forgetting": {
                        **({ANCHORS_NAME: _of_anchors(role, results, self.settings)} if "anchors" in self.rows else {}),
                        **{name: _of_task(name, role, results, self.settings) for name in result.tasks},
                    },
                    "shots": _of_shots(result.rows.get("shots", []), self.settings) if "shots" in self.rows else {},
                }
            )
            for role, result in results.items()
        }

    def facts(self) -> Entry:
        """What was tested: paths, digests and versions, for metrics.json."""
        entry: Entry = {}
        if self.settings.anchors is not None:
            entry["anchors"] = _rendered("anchors")
        if self.settings.lm_eval is not None:
            entry["lm_eval"] = describe_tasks(self.settings.lm_eval)
        return entry

    def write(self, results: Mapping[str, FurtherResult]) -> None:
        for role, result in results.items():
            for name, rows in result.rows.items():
                write_parquet(paths.PREDICTIONS / name / f"{role}.parquet", pa.Table.from_pylist(rows, SCHEMA))
            if result.tasks:
                values = pa.Table.from_pylist(task_values(result.tasks), TASK_VALUES_SCHEMA)
                write_parquet(paths.PREDICTIONS / "lm_eval" / f"{role}.parquet", values)


def open_tests(settings: EvaluateSettings) -> FurtherTests:
    """The tests that are set.

    Raises:
        ConfigError: lm-eval is missing, or does not know a task.
        DataError: `render` has not written the rows.
    """
    if settings.lm_eval is not None:
        require_tasks(settings.lm_eval)
    rows = {}
    if settings.anchors is not None:
        rows["anchors"] = _read(ANCHORS, "anchors", settings.anchors)
    if settings.shots:
        rows["shots"] = _read(SHOTS, "shots", settings.shots)
    return FurtherTests(settings, rows)


def task_values(tasks: Mapping[str, Entry]) -> list[Row]:
    """The rows of TASK_VALUES_SCHEMA: of the metrics that are means over rows."""
    return [
        {"task": task, "metric": metric, "row": number, "value": value}
        for task, entry in tasks.items()
        for metric, numbers in entry.items()
        if isinstance(numbers, dict)
        for number, value in enumerate(numbers["values"])
    ]


def _read(path: Path, setting: str, value: str | int) -> list[Row]:
    rendered = _rendered(setting).get(setting)
    if rendered != value:
        what = f"was rendered for evaluate.{setting}: {rendered}, which is {value} now"
        raise DataError(what, where=str(path), fix="Begin a round: python -m tasks ingest, then dvc repro evaluate")
    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows


def _rendered(name: str) -> Entry:
    """The entry that `render` wrote about "anchors" or "shots"; empty without one."""
    entry: Entry = read_json(FURTHER_TESTS).get(name, {}) if FURTHER_TESTS.exists() else {}
    return entry


def _of_anchors(role: str, results: Mapping[str, FurtherResult], settings: EvaluateSettings) -> Entry:
    """As of test rows: there is a score of all anchors only if they have one metric."""
    rows = {each: result.rows["anchors"] for each, result in results.items()}
    described = describe_model(rows[role], settings)
    families = {
        family: entry | _changes(role, _scores_by_role(rows, family), settings, f"{ANCHORS_NAME}/{family}")
        for family, entry in described["families"].items()
    }
    of_all = _changes(role, _scores_by_role(rows), settings, ANCHORS_NAME) if "overall" in described else {}
    return {"rows": len(rows[role]), **described.get("overall", {}), "families": families, **of_all}


def _scores_by_role(rows: Mapping[str, Sequence[Row]], family: str | None = None) -> dict[str, list[float]]:
    return {
        role: [row["score"] for row in members if family in (None, row["family"])] for role, members in rows.items()
    }


def _of_shots(rows: list[Row], settings: EvaluateSettings) -> Entry:
    described = describe_model(rows, settings)
    fewer = sum(row["shots"] < settings.shots for row in rows)
    of_all = {"rows": len(rows), **described.get("overall", {})}
    return {str(settings.shots): {**of_all, "fewer_shots": fewer, "families": described["families"]}}


def _of_task(name: str, role: str, results: Mapping[str, FurtherResult], settings: EvaluateSettings) -> Entry:
    """A task's numbers, each metric with the interval of its mean over rows."""
    entry = dict(results[role].tasks[name])
    for metric, numbers in entry.items():
        if not isinstance(numbers, dict):
            continue
        values = {each: result.tasks[name].get(metric, {}).get("values", []) for each, result in results.items()}
        seed = [settings.seed, zlib.crc32(f"{name}/{metric}".encode())]
        own = _scores(values[role])
        interval = (
            score_interval(own, confidence=settings.confidence, samples=settings.bootstrap_samples, seed=seed)
            if _are_shares(own)
            else None
        )
        stderr = numbers["stderr"]
        entry[metric] = {
            "score": rounded(numbers["score"]),
            "stderr": None if stderr is None else rounded(stderr),
            "interval": None if interval is None else [rounded(interval.low), rounded(interval.high)],
            **_changes(role, values, settings, f"{name}/{metric}"),
        }
    return entry


def _changes(role: str, scores: Mapping[str, Sequence[float]], settings: EvaluateSettings, name: str) -> Entry:
    """Of the candidate: role → the mean difference to that model on the same rows, with its interval."""
    if role != "candidate":
        return {}
    own, changes = _scores(scores[role]), {}
    for other, values in scores.items():
        reference = _scores(values)
        if other == role or len(reference) != len(own) or not (_are_shares(own) and _are_shares(reference)):
            continue
        interval = difference_interval(
            reference,
            own,
            confidence=settings.confidence,
            samples=settings.bootstrap_samples,
            seed=[settings.seed, zlib.crc32(f"{name}/{other}".encode())],
        )
        mean = float((own - reference).mean())
        changes[other] = {"score": rounded(mean), "interval": [rounded(interval.low), rounded(interval.high)]}
    return {"changes": changes}


def _scores(values: Sequence[float]) -> Scores:
    return np.array(values, np.float64)


def _are_shares(scores: Scores) -> bool:
    """Whether there are scores, all from 0 to 1: the intervals are of such scores."""
    return bool(len(scores)) and bool(((scores >= 0) & (scores <= 1)).all())


def _without_empty(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if value}
