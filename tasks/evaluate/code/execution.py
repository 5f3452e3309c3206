"""Runs the answers to test rows with tests, and replaces their scores: 1 if all tests pass, else 0."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.evaluate.code.report import SAMPLES_SCHEMA, sample_rows
from tasks.evaluate.code.samples import sample_code
from tasks.evaluate.code.settings import CodeSettings
from tasks.evaluate.inference import LazyModel
from tasks.evaluate.predictions import EvaluationTask, Row
from tasks.runtime.files import write_parquet
from tasks.runtime.plurals import count_of
from tasks.sandbox.run_programs import NO_PROGRAM, Limits, Outcome, Program, Sandbox, open_sandbox
from tasks.scoring.code_answers import programs_of
from tasks.scoring.read_answer import complete_answer

logger = logging.getLogger(__name__)

Answered = tuple[str, str]
"""Row id and answer."""


class Execution:
    """The sandbox, and the test rows whose answers run in it.

    Args:
        rows: row id → test row with tests.
    """

    def __init__(self, sandbox: Sandbox, rows: Mapping[str, Row]) -> None:
        self._sandbox = sandbox
        targets = [_program(row, row["target"]) for row in rows.values()]
        outcomes = sandbox.run([*targets, *(Program(NO_PROGRAM, row["tests"]) for row in rows.values())])
        of_targets, of_nothing = outcomes[: len(rows)], outcomes[len(rows) :]
        python = {row_id: each.reason for row_id, each in zip(rows, of_targets, strict=True) if each.reason is not None}
        empty = {row_id for row_id, each in zip(rows, of_nothing, strict=True) if each.reason == "passed"}
        reasons = {row_id: reason for row_id, reason in python.items() if row_id not in empty}
        self.rows = {row_id: rows[row_id] for row_id in reasons}
        """Those whose tests are Python and test something; the others are compared as text."""
        self.targets = Counter(reasons.values())
        """Reason → number of targets: a target that fails its own tests shows that they, or the limits, are wrong."""
        if others := len(rows) - len(python):
            logger.warning(f"evaluate: the tests of {count_of(others, 'row')} are not Python: compared as text")
        if empty:
            logger.warning(
                f"evaluate: the tests of {count_of(len(empty), 'row')} pass without any answer: compared as text. Functions such "
                f"as `test_f` or `check` must be called by the tests: {_first(empty)}"
            )
        if failing := sorted(row_id for row_id, reason in reasons.items() if reason != "passed"):
            logger.warning(
                f"evaluate: the targets of {count_of(len(failing), 'row')} fail their own tests, as any answer may: "
                f"{_first(failing)}"
            )

    def score(self, predictions: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
        """The predictions of each role, those of rows with tests with `execution`, `execution_error`, and the score by them."""
        answered = {
            (row["row_id"], row["prediction"]): None
            for rows in predictions.values()
            for row in rows
            if row["row_id"] in self.rows
        }
        outcomes = self.run(list(answered))
        return {
            role: [_by_tests(row, outcomes.get((row["row_id"], row["prediction"]))) for row in rows]
            for role, rows in predictions.items()
        }

    def run(self, answered: Sequence[Answered]) -> dict[Answered, Outcome]:
        """The outcome of each answer to a row with tests."""
        programs = [
            _program(self.rows[key], complete_answer(answer, self.rows[key].get("opens_thought")))
            for key, answer in answered
        ]
        outcomes = self._sandbox.run(programs)
        # a program that claims that its tests are not Python is not believed: the target has run with them
        outcomes = [each if each.reason else Outcome("error", each.detail) for each in outcomes]
        return dict(zip(answered, outcomes, strict=True))

    def sample(self, model: LazyModel, task: EvaluationTask) -> list[Row]:
        """Sampled answers to the rows with tests (SAMPLES_SCHEMA), executed; none unless `evaluate.code.pass_at` requests them."""
        if not task.settings.code.pass_at:
            return []
        samples = sample_code(model, task, list(self.rows))
        outcomes = self.run([(row_id, text) for row_id, texts in samples.items() for text in dict.fromkeys(texts)])
        return sample_rows(samples, {row_id: row["family"] for row_id, row in self.rows.items()}, outcomes)

    def describe(self) -> dict[str, Any]:
        """For metrics.json: the isolation in force, and how the targets fared."""
        return {**self._sandbox.describe(), "rows": len(self.rows), "targets": dict(sorted(self.targets.items()))}


def _first(row_ids: Collection[str]) -> str:
    return f"{', '.join(sorted(row_ids)[:5])}{', ...' if len(row_ids) > 5 else ''}"


def _program(row: Row, text: str) -> Program:
    return Program(programs_of(text, row["stub"] or ""), row["tests"])


def _by_tests(row: Row, outcome: Outcome | None) -> Row:
    if outcome is None:
        return row
    passed = outcome.reason == "passed"
    return row | {
        "execution": outcome.reason,
        "execution_error": outcome.detail or None,
        "score": float(passed),
        "degenerate": None if passed else row["degenerate"],
        "is_unparsed": outcome.reason == "no_code",
    }


def write_samples(role: str, samples: Sequence[Row]) -> None:
    """Writes data/predictions/<role>.code_samples.parquet, if there are sampled answers."""
    if samples:
        path = paths.PREDICTIONS / f"{role}.code_samples.parquet"
        write_parquet(path, pa.Table.from_pylist(samples, SAMPLES_SCHEMA))


def open_execution(settings: CodeSettings, test: Sequence[Row]) -> Execution | None:
    """The sandbox for the test rows with tests; None if there are none, or nothing is to be executed.

    Raises:
        ConfigError: programs cannot be isolated on this machine.
    """
    rows = {row["row_id"]: row for row in test if row.get("tests")}
    if not settings.execute:
        if rows:
            are = f"{count_of(len(rows), 'row')} with tests"
            logger.info(f"evaluate: {are}: their answers are compared as text (evaluate.code.execute: false)")
        return None
    return Execution(open_code_sandbox(settings), rows) if rows else None


def open_code_sandbox(settings: CodeSettings) -> Sandbox:
    """The sandbox that the settings request.

    Raises:
        ConfigError: programs cannot be isolated on this machine.
    """
    limits = Limits(settings.cpu_seconds, settings.memory_mb, settings.files_mb)
    return open_sandbox(limits, settings.processes, setting="evaluate.code.execute")
