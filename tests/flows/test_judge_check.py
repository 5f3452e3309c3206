"""Before a run: what is missing for the pairwise judge, and that its folder is an input of every project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from support.project import params, write_params
from support.toyjudge import write_preferences

from flows.preflight.problem import Problem
from flows.preflight.project import read_project
from flows.preflight.table import CHECKS, run_check
from tasks import paths
from tasks.model_store import ledger
from tasks.state.input_folders import begin_input_folders
from tasks.workspace.inputs import list_inputs

QA = {"name": "qa", "path": "inbox/*.jsonl", "shape": "alpaca", "family": "qa"}


def problems(root: Path, base: Path | str, name: str = "judge", **settings: Any) -> list[Problem]:
    """What the check finds in a project with this judge."""
    judge = {"base_url": "https://judge.example/v1", "model": "qwen3-32b", "families": ["qa"], **settings}
    write_params(root, params(base, [QA], evaluate={"judge": judge}))
    current = read_project()
    assert current.invalid is None
    return run_check(next(check for check in CHECKS if check.name == name), current)


def test_a_judge_with_rubrics_and_preferences_has_no_problem(project: Path, tiny_gpt2: Path) -> None:
    write_preferences(4)
    assert problems(project, tiny_gpt2) == []


def test_without_a_judge_nothing_is_checked(project: Path, tiny_gpt2: Path) -> None:
    shutil.rmtree(paths.JUDGES)
    write_params(project, params(tiny_gpt2, [QA]))
    assert run_check(next(check for check in CHECKS if check.name == "judge"), read_project()) == []


def test_missing_preferences_are_a_warning(project: Path, tiny_gpt2: Path) -> None:
    (problem,) = problems(project, tiny_gpt2)
    assert (problem.severity, problem.where) == ("warning", "data/judges/preferences.jsonl")
    assert problem.what == "the judge only reports: there are no preferences of people"


def test_a_missing_rubric_is_an_error(project: Path, tiny_gpt2: Path) -> None:
    (project / "data/judges/default.j2").unlink()
    (project / "data/judges/default.zh.j2").unlink()
    (problem,) = problems(project, tiny_gpt2)
    assert (problem.severity, problem.what) == ("error", "family `qa` has no rubric")


def test_a_damaged_preference_is_an_error_with_its_line(project: Path, tiny_gpt2: Path) -> None:
    (project / "data/judges/preferences.jsonl").write_text('{"question": "你好"}\n', encoding="utf-8")
    (problem,) = problems(project, tiny_gpt2)
    assert (problem.severity, problem.where) == ("error", "data/judges/preferences.jsonl line 1")


def test_a_variable_that_is_not_set_is_an_error_at_its_setting(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STROP_NO_SUCH_KEY", raising=False)
    monkeypatch.delenv("STROP_NO_SUCH_PASSWORD", raising=False)
    address = "https://me:${STROP_NO_SUCH_PASSWORD}@judge.example/v1"
    result = problems(project, tiny_gpt2, "environment", api_key_env="STROP_NO_SUCH_KEY", base_url=address)
    assert [problem.what for problem in result] == [
        "the environment variable STROP_NO_SUCH_PASSWORD is not set",
        "the environment variable STROP_NO_SUCH_KEY is not set",
    ]
    assert all(problem.where is not None and "evaluate.judge." in problem.where for problem in result)


def test_a_misspelled_family_and_a_judge_like_the_base_are_warnings(project: Path) -> None:
    write_preferences(4)
    result = problems(project, "Qwen/Qwen3-0.6B", families=["qaa"])
    assert [problem.severity for problem in result] == ["warning", "warning"]
    assert result[0].what == "family `qaa` has no templates, so no row can have it"
    assert result[1].what.startswith("the judge only reports: judge and base are of the family qwen")
    assert problems(project, "Qwen/Qwen3-0.6B", allow_same_family=True) == []


def test_the_folder_of_rubrics_is_an_input_of_each_run_also_in_a_project_that_has_none(project: Path) -> None:
    (project / "data/judges/qa.j2").write_text("{{ question }}{{ answer_a }}{{ answer_b }}")
    write_preferences(2)
    assert {"data/judges/qa.j2", "data/judges/preferences.jsonl"} <= set(list_inputs().names)
    shutil.rmtree(paths.JUDGES)
    begin_input_folders()
    assert [path.name for path in paths.JUDGES.iterdir()] == ["README.md"]
    assert "data/judges/README.md" in list_inputs().names
    (paths.JUDGES / "README.md").write_text("own")
    begin_input_folders()
    assert (paths.JUDGES / "README.md").read_text() == "own"


@pytest.mark.parametrize(
    ("engine", "where", "what"),
    [
        ({"command": ["/opt/no/vllm", "{model}", "{port}"]}, "evaluate.engine.command", "no program `/opt/no/vllm`"),
        (
            {"urls": {"base": {"base_url": "http://h/v1", "model": "b"}}},
            "evaluate.engine.urls",
            "has no server of candidate",
        ),
        (
            {"command": ["sh", "{model}", "{port}"], "api_key_env": "NO_KEY"},
            "environment variable NO_KEY",
            "is not set",
        ),
    ],
)
def test_a_server_that_would_fail_after_the_training_is_an_error(
    project: Path, tiny_gpt2: Path, engine: dict[str, Any], where: str, what: str
) -> None:
    write_params(project, params(tiny_gpt2, [QA], evaluate={"engine": engine}))
    (problem,) = run_check(next(check for check in CHECKS if check.name == "judge"), read_project())
    assert (problem.severity, problem.where, problem.what) == ("error", where, what)


def test_a_secret_in_the_command_of_a_server_is_a_warning_and_its_variable_is_required(
    project: Path, tiny_gpt2: Path
) -> None:
    command = ["sh", "{model}", "{port}", "--api-key", "hunter22", "--hf-token", "${STROP_NO_SUCH_TOKEN}"]
    write_params(project, params(tiny_gpt2, [QA], evaluate={"engine": {"command": command}}))
    checks = [check for check in CHECKS if check.name in ("judge", "environment")]
    missing, secret = (problem for check in checks for problem in run_check(check, read_project()))
    assert missing.what == "the environment variable STROP_NO_SUCH_TOKEN is not set"
    assert (secret.severity, "evaluate.engine.command" in secret.where) == ("warning", True)
    assert secret.what.startswith("has a secret")
    assert "hunter22" not in f"{missing}{secret}"


def test_a_variable_in_the_address_of_a_server_is_required_before_the_training(project: Path, tiny_gpt2: Path) -> None:
    urls = {role: {"base_url": "http://${STROP_NO_SUCH_HOST}/v1", "model": role} for role in ("base", "candidate")}
    write_params(project, params(tiny_gpt2, [QA], evaluate={"engine": {"urls": urls}}))
    result = run_check(next(check for check in CHECKS if check.name == "environment"), read_project())
    assert {problem.what for problem in result} == {"the environment variable STROP_NO_SUCH_HOST is not set"}
    assert result[0].where is not None
    assert "evaluate.engine.urls.base" in result[0].where


def test_a_server_of_the_champion_is_required_once_there_is_one(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {role: {"base_url": "http://h/v1", "model": role} for role in ("base", "candidate")}
    write_params(project, params(tiny_gpt2, [QA], evaluate={"engine": {"urls": urls}}))
    check = next(check for check in CHECKS if check.name == "judge")
    assert run_check(check, read_project()) == []
    monkeypatch.setattr(ledger, "read_ledger", lambda name: [Mock(kind="promoted", version=1)])
    (problem,) = run_check(check, read_project())
    assert (problem.severity, problem.what) == ("error", "has no server of champion")


def test_a_local_judge_that_is_missing_is_an_error(project: Path, tiny_gpt2: Path) -> None:
    write_preferences(4)
    (problem,) = problems(project, tiny_gpt2, base_url=None, model="./judges/none")
    assert (problem.severity, problem.where) == ("error", "evaluate.judge.model")
