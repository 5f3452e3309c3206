"""Answers to rows with tests are scored by running both; the numbers lead to their rows."""

from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa
import pytest
from support.isolation import require_isolation

from tasks.errors import ConfigError
from tasks.evaluate.code import execution
from tasks.evaluate.code.execution import Execution, open_execution
from tasks.evaluate.code.report import SAMPLES_SCHEMA, describe_code, sample_rows
from tasks.evaluate.code.settings import CodeSettings
from tasks.evaluate.predictions import PREDICTIONS_SCHEMA, Row, score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.sandbox.run_programs import Outcome, Program

SETTINGS = EvaluateSettings(bootstrap_samples=200, code=CodeSettings(execute=True, pass_at=(1, 2), samples=2))
TARGET, TESTS = "def f(x):\n    return x", "assert f(2) == 2"


def row_of(row_id: str, **more: Any) -> Row:
    row = {"row_id": row_id, "batch": "b", "source": "s", "use": "train", "family": "code", "kind": "code"}
    text = {
        "language": "en",
        "prompt": "Write f.",
        "target": TARGET,
        "tests": TESTS,
        "stub": "",
        "question": "Write f.",
    }
    return row | text | more


class KnownOutcomes:
    """Stands for the sandbox: an answer passes if it is right, and its tests if they are Python."""

    def __init__(self) -> None:
        self.ran: list[Program] = []

    def run(self, programs: list[Program]) -> list[Outcome]:
        self.ran += programs
        return [self._outcome(program) for program in programs]

    def _outcome(self, program: Program) -> Outcome:
        if not program.texts:
            return Outcome("no_code")
        if program.tests.startswith("public class") or "claims" in program.texts[0]:
            return Outcome(None, "SyntaxError")
        right = "return x" in program.texts[0]
        return Outcome("passed") if right else Outcome("wrong", "AssertionError in line 1")

    def describe(self) -> dict[str, Any]:
        return {"isolation": "none"}


def executed(rows: list[Row], answers: list[str]) -> tuple[Execution, list[Row], KnownOutcomes]:
    sandbox: Any = KnownOutcomes()
    run = Execution(sandbox, {row["row_id"]: row for row in rows if row["tests"]})
    return run, run.score({"candidate": score_rows(rows, answers)})["candidate"], sandbox


def test_the_score_is_one_where_all_tests_pass_and_else_zero() -> None:
    rows = [row_of(f"r{i}") for i in range(5)] + [row_of("plain", tests="")]
    loop = "def f(x):\n    return x\n" + "x = 1\n" * 40
    answers = ["```python\ndef f(x):\n  return x\n```", "def f(x):\n    return 3", "", loop, "claims", TARGET]
    _, scored, _ = executed(rows, answers)
    assert [row["score"] for row in scored] == [1, 0, 0, 1, 0, 1]
    assert [row.get("execution") for row in scored] == ["passed", "wrong", "no_code", "passed", "error", None]
    assert [row["is_unparsed"] for row in scored] == [False, False, True, False, False, False]
    assert scored[1]["execution_error"] == "AssertionError in line 1"
    assert [row["degenerate"] for row in scored] == [None, None, "empty", None, None, None]
    table = pa.Table.from_pylist(scored, PREDICTIONS_SCHEMA)
    assert table["execution"].to_pylist()[-1] is None


def test_equal_answers_of_several_models_run_once() -> None:
    rows = [row_of("r0"), row_of("r1")]
    sandbox: Any = KnownOutcomes()
    run = Execution(sandbox, {row["row_id"]: row for row in rows})
    same = score_rows(rows, [TARGET, "no"])
    scored = run.score({"champion": same, "candidate": same})
    assert scored["champion"] == scored["candidate"]
    assert len(sandbox.ran) == 2 + 2 + 2, "each target, the tests without an answer, and each different answer"


def test_rows_whose_tests_are_not_python_are_compared_as_text(caplog: pytest.LogCaptureFixture) -> None:
    rows = [row_of("java", tests="public class T {}"), row_of("broken", target="def f(x):\n    return 0")]
    with caplog.at_level(logging.WARNING):
        run, scored, _ = executed(rows, [TARGET, TARGET])
    assert (scored[0].get("execution"), scored[0]["score"]) == (None, 1.0)
    assert run.describe() == {"isolation": "none", "rows": 1, "targets": {"wrong": 1}}
    assert "the tests of 1 row are not Python: compared as text" in caplog.text
    assert "the targets of 1 row fail their own tests, as any answer may: broken" in caplog.text


def test_rows_whose_tests_pass_without_an_answer_are_compared_as_text(caplog: pytest.LogCaptureFixture) -> None:
    code = CodeSettings(execute=True, cpu_seconds=2, memory_mb=256, processes=2)
    never_called = "def test_f():\n    assert f(2) == 2"
    rows = [row_of("r0", tests=never_called), row_of("r1", tests="def check(candidate):\n    assert candidate(2) == 2")]
    require_isolation()
    run = open_execution(code, [*rows, row_of("r2")])
    assert run is not None
    assert list(run.rows) == ["r2"]
    (scored,) = run.score({"candidate": score_rows(rows[:1], ["def f(x):\n    return 0"])})["candidate"]
    assert scored.get("execution") is None
    assert scored["score"] < 1
    assert "the tests of 2 rows pass without any answer: compared as text" in caplog.text
    assert caplog.text.count("not Python") == 0


def test_metrics_have_outcomes_and_pass_at_k_of_each_family() -> None:
    rows = [row_of(f"r{i}", family="代码" if i < 2 else "code") for i in range(6)]
    run, scored, _ = executed(rows, [TARGET, "x", TARGET, "x", "", TARGET])
    samples = {row_id: [TARGET, "x"] if row_id != "r5" else ["x", ""] for row_id in run.rows}
    outcomes = run.run([(row_id, text) for row_id, texts in samples.items() for text in texts])
    sampled = sample_rows(samples, {row["row_id"]: row["family"] for row in rows}, outcomes)
    assert pa.Table.from_pylist(sampled, SAMPLES_SCHEMA).num_rows == 12
    measured = describe_code(scored, sampled, SETTINGS)["code"]
    assert list(measured) == ["code", "代码"]
    assert measured["code"]["rows"] == 4
    assert measured["code"]["pass_at_1"] == 0.5
    assert measured["code"]["interval"][0] < 0.5 < measured["code"]["interval"][1]
    counts = {"passed": 2, "wrong": 1, "error": 0, "timeout": 0, "memory": 0, "syntax": 0, "no_code": 1}
    assert measured["code"]["outcomes"] == counts
    of_samples = measured["code"]["sampled"]
    assert (of_samples["samples"], of_samples["outcomes"]["passed"]) == (2, 3)
    assert of_samples["pass_at_1"]["score"] == 0.375  # three rows with one of two, one with none
    assert of_samples["pass_at_2"]["score"] == 0.75
    families = describe_model(scored, SETTINGS)["families"]
    assert families["代码"]["measure"] == "tests passed"
    assert families["代码"]["score"] == measured["代码"]["pass_at_1"] == 0.5


def test_a_family_that_is_partly_executed_names_both_scores() -> None:
    _, scored, _ = executed([row_of("r0"), row_of("r1", tests="")], [TARGET, TARGET])
    measured = describe_model(scored, SETTINGS)
    assert measured["families"]["code"]["measure"] == "tests passed, chrF"
    assert "overall" not in measured, "the two scores have no common mean"


def test_nothing_is_executed_unless_a_setting_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("no bubblewrap")

    monkeypatch.setattr(execution, "open_sandbox", refuse)
    with caplog.at_level(logging.INFO):
        assert open_execution(CodeSettings(), [row_of("r0")]) is None
    assert "1 row with tests: their answers are compared as text (evaluate.code.execute: false)" in caplog.text
    assert open_execution(CodeSettings(execute=True), [row_of("r0", tests=None)]) is None
    with pytest.raises(ConfigError, match="no bubblewrap"):
        open_execution(CodeSettings(execute=True), [row_of("r0")])


def test_pass_at_k_needs_as_many_samples() -> None:
    with pytest.raises(ValueError, match="pass@30 needs as many `samples`, not 20"):
        CodeSettings(pass_at=(1, 30))


def test_answers_run_in_the_sandbox_of_this_machine() -> None:
    code = CodeSettings(execute=True, cpu_seconds=2, memory_mb=256, processes=2)
    stub = 'def double(x):\n    """Twice x."""'
    rows = [
        row_of("r0", target="    return 2 * x", stub=stub, tests="assert double(4) == 8"),
        row_of("r1"),
        row_of("r2", opens_thought=True),
    ]
    require_isolation()
    run = open_execution(code, rows)
    assert run is not None
    assert run.targets == {"passed": 3}
    answers = ["return x + x", "```python\ndef f(x):\n    return x * x\n```", "f is x</think>def f(x): return x"]
    scored = run.score({"candidate": score_rows(rows, answers)})["candidate"]
    assert [row["score"] for row in scored] == [1, 0, 1]
    assert scored[1]["execution_error"] == "AssertionError in line 1 of the tests: assert f(2) == 2"
