"""`strop compare`: versions from their commits in DVC, the last run from the project. With git, DVC's cache and ledger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from support.project import params, set_up_project
from support.versions import prediction, record, register_version, write_predictions

from flows.cli.main import run
from tasks import paths
from tasks.state.erasures import Erasure, record_erasure
from tasks.vcs.dvc_outputs import stored_files

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1 serves. v2, compared with it on one row more, and v3 are registered; the predictions of v3's run are in the project."""
    root = tmp_path_factory.mktemp("compare") / "project"
    with pytest.MonkeyPatch.context() as patch:
        set_up_project(root)
        patch.chdir(root)
        base = [prediction(n, "基", 0.0) for n in range(1, 7)]
        write_predictions(base=base, candidate=[prediction(n, "one", n % 2) for n in range(1, 5)])
        register_version(1, params("base", []))
        record("promoted", 1)
        one, two = ([prediction(n, name, score) for n in range(1, 6)] for name, score in (("one", 0.0), ("two二", 1.0)))
        write_predictions(base=base, champion=one, candidate=two)
        register_version(2, params("base", [], finetune={"learning_rate": 0.5}), champion=1)
        write_predictions(base=base, champion=one, candidate=[prediction(n, "three", 0.5) for n in range(4, 7)])
        register_version(3, params("base", []), champion=1)
    return root


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(template, tmp_path / "project", symlinks=True))
    return tmp_path / "project"


def facts(strop: Command, *arguments: str) -> Any:
    code, out, err = strop("compare", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def with_measures(**drops: float) -> None:
    """Adds the drop by typos to the metrics of the last run, by role."""
    metrics = json.loads(paths.METRICS.read_text())
    for role, drop in drops.items():
        metrics["models"][role]["robustness"] = {"typos": {"drop": drop, "interval": [drop, drop], "rows": 4}}
        metrics["models"][role]["size"] = {"bytes": 1}
    paths.METRICS.write_text(json.dumps(metrics))


def test_the_other_measures_are_of_the_runs_whose_answers_are_compared(world: Path, strop: Command) -> None:
    with_measures(champion=0.1, candidate=0.2)
    measures = facts(strop, "champion", "candidate")["measures"]
    drops = [measures[side]["robustness"]["typos"]["drop"] for side in ("first", "second")]
    assert (drops, measures["is_one_run"]) == ([0.1, 0.2], True)
    other = facts(strop, "v2", "candidate")["measures"]
    assert (other["first"], [*other["second"]], other["is_one_run"]) == ({}, ["robustness"], False)
    _, page, _ = strop("compare", "champion", "candidate")
    assert "robustness typos: drop" in page
    assert "Answers of both: data/predictions, of the last run." in page
    _, page, _ = strop("compare", "v2", "candidate")
    assert "Answers of v2: the run of v2, data/predictions in its commit; of candidate v3: data/predictions" in page


def test_two_models_of_one_run_are_compared_on_its_rows(world: Path, strop: Command) -> None:
    result = facts(strop, "v1", "2")
    (overall,) = [family for family in result["families"] if family["family"] == "overall"]
    assert (overall["rows"], overall["counts"]["won"]) == (5, 5), "v1's answers in the run of v2: four in its own run"
    assert [change["name"] for change in result["parameters"]] == ["finetune.learning_rate"]
    assert result["data"] is None


def test_models_of_different_runs_are_compared_on_the_rows_that_both_have(world: Path, strop: Command) -> None:
    result = facts(strop, "2", "v3", "--limit", "2")
    assert (result["only_first"], result["only_second"], result["families"][-1]["rows"]) == (3, 1, 2)
    assert [row["outcome"] for row in result["rows"]] == ["lost", "lost"]


@pytest.mark.parametrize("name", ["candidate", "challenger", "3"])
def test_the_words_name_the_models_of_the_last_run(world: Path, strop: Command, name: str) -> None:
    result = facts(strop, "champion", name)
    assert result["first"]["version"] == 1
    assert result["second"]["version"] == 3
    assert facts(strop, "base", name)["families"][-1]["counts"]["won"] == 3


def test_an_unregistered_candidate_is_compared_with_its_champion(world: Path, strop: Command) -> None:
    rows = [prediction(n, "four", 1.0) for n in range(1, 4)]
    write_predictions(base=rows, champion=[prediction(n, "one", 0.0) for n in range(1, 4)], candidate=rows)
    result = facts(strop, "champion", "candidate", "--family", "qa", "--show", "won")
    assert result["second"] == {"label": "candidate", "version": None, "is_base": False}
    assert [row["second"] for row in result["rows"]] == ["four"]


def test_english_and_chinese_answers_are_in_aligned_columns(
    world: Path, strop: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    _, out, _ = strop("compare", "v1", "v2")
    lines = out.splitlines()
    heads = [line for line in lines if "v1: " in line and "v2: " in line]
    answers = [line for line in lines if "two二" in line]
    assert len(heads) == len(answers) == 5
    columns = {
        cell_len(line[: line.index(text)]) for text, result in (("v2: ", heads), ("two二", answers)) for line in result
    }
    assert len(columns) == 1
    assert max(map(cell_len, lines)) <= 90
    for fact in ("mean difference", "finetune.learning_rate", "第1题", "目标2", "won"):
        assert fact in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("v1", "v9"), "v9: no such version. Name one of v1, v2, v3, base"),
        (("v1", "冠军"), "no such version"),
        (("champion", "v1"), "are the same model"),
        (("v1", "v2", "--slice", "score >"), "--slice"),
    ],
)
def test_what_cannot_be_compared_is_one_line_with_what_to_do(
    world: Path, strop: Command, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = strop("compare", *arguments)
    assert code == 1
    assert message in err
    assert (out, len(err.splitlines())) == ("", 1)


def test_versions_without_a_common_row_are_reported(world: Path, strop: Command) -> None:
    write_predictions(candidate=[prediction(99, "four", 1.0)])
    code, _, err = strop("compare", "v2", "candidate")
    assert code == 1
    assert "v2 and candidate: have no test row in common (5 and 1 rows)" in err


def test_a_version_whose_predictions_were_erased_has_none(world: Path, strop: Command) -> None:
    (file,) = [f for f in stored_files("tiny@v2", paths.PREDICTIONS) if f.relpath == "candidate.parquet"]
    record_erasure(Erasure("p", file.md5, "", "", "", ["1"], ["2"], "me", "now", "asked to"))
    file.path.unlink()
    code, _, err = strop("compare", "v3", "v2")
    assert code == 1
    assert "v2: has no predictions: erased with their rows" in err
    assert "strop history" in err


def test_before_the_first_run_the_message_says_how_to_begin(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths.PARAMS.write_text(json.dumps(params("base", [])))
    assert run(["compare", "base", "candidate"]) == 1
    assert "no run has made predictions yet. Start one: strop run" in capsys.readouterr().err
