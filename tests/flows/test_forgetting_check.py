"""Before a run: anchors, tasks of lm-eval, and objectives whose models generate no answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.project import params, write_params
from support.toy_rows import write_jsonl

from flows.preflight.problem import Problem
from flows.preflight.process import _key
from flows.preflight.project import read_project
from flows.preflight.table import CHECKS, run_check
from tasks import paths
from tasks.errors import ConfigError
from tasks.evaluate import lm_eval_tasks
from tasks.ingest.resolve_training_start import new_start
from tasks.runtime.files import write_text
from tasks.state.input_folders import begin_input_folders
from tasks.state.round import Round
from tasks.workspace.inputs import list_inputs

QA = {"name": "qa", "path": "inbox/*.jsonl", "shape": "alpaca", "family": "qa"}
ANCHORS = "data/forgetting/anchors.jsonl"
TASKS = "data/forgetting/tasks"


def problems(root: Path, check: str, objective: str = "sft", **evaluate: Any) -> list[Problem]:
    write_params(root, params("gpt2", [QA], finetune={"objective": objective}, evaluate=evaluate))
    current = read_project()
    assert current.invalid is None
    return run_check(next(each for each in CHECKS if each.name == check), current)


def test_good_anchors_are_no_problem_and_a_damaged_line_is_an_error_at_its_place(project: Path) -> None:
    write_jsonl(Path(ANCHORS), [{"family": "qa", "input": "最大的行星叫什么？", "output": "木星。"}])
    assert problems(project, "further_tests", anchors=ANCHORS, shots=2) == []
    write_jsonl(Path(ANCHORS), [{"family": "qa", "input": "Who?", "output": "Ann."}, {"family": "qqa"}])
    (problem,) = problems(project, "further_tests", anchors=ANCHORS)
    assert (problem.severity, problem.where) == ("error", f"{ANCHORS} line 2")


@pytest.mark.parametrize(
    ("evaluate", "name"),
    [({"anchors": ANCHORS}, "anchors"), ({"shots": 1}, "shots"), ({"lm_eval": {"tasks": ["arc_easy"]}}, "lm_eval")],
)
def test_a_classifier_cannot_be_tested_by_answers(evaluate: dict[str, Any], name: str, project: Path) -> None:
    write_jsonl(Path(ANCHORS), [{"family": "topic", "input": "A goal.", "output": "sport"}])
    (problem,) = problems(project, "further_tests", "classify", **evaluate)
    assert problem.severity == "error"
    assert problem.where is not None
    assert problem.where.endswith(f"evaluate.{name}")
    with pytest.raises(ConfigError, match=f"evaluate.{name}: needs a model that generates answers"):
        new_start(read_project().config, Round(None, 1, 0))


def test_a_missing_library_is_an_error_before_a_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(project, "lm_eval") == []
    monkeypatch.setattr(lm_eval_tasks, "find_spec", lambda _: None)
    (problem,) = problems(project, "lm_eval", lm_eval={"tasks": ["arc_easy"]})
    assert (problem.severity, problem.what) == ("error", "lm-eval is not installed")
    assert problem.where is not None
    assert "evaluate.lm_eval" in problem.where


def test_a_changed_task_file_is_checked_again(project: Path) -> None:
    write_text(Path(TASKS) / "deep/mine.yaml", "task: mine\n")
    problems(project, "further_tests", lm_eval={"tasks": ["mine"], "include_path": TASKS})
    before = _key(["lm_eval"], read_project())
    write_text(Path(TASKS) / "deep/mine.yaml", "task: yours\n")
    assert _key(["lm_eval"], read_project()) != before


def test_the_folder_is_an_input_of_each_run_also_in_a_project_that_has_none(project: Path) -> None:
    write_text(Path(TASKS) / "mine.yaml", "task: mine\n")
    assert f"{TASKS}/mine.yaml" in list_inputs().names
    shutil.rmtree(paths.FORGETTING)
    begin_input_folders()
    assert [path.name for path in paths.FORGETTING.iterdir()] == ["README.md"]
