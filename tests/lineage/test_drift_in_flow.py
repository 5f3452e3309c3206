"""Drift in the flow: reported once in the summary, against the champion's data, and it never fails a run. With DVC for real."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from support import toyworld
from support.project import params, set_up_project, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import write_jsonl

from flows.cli import main
from flows.outcome import Outcome
from flows.report.markdown import as_markdown
from flows.report.summary import Summary, read_summary
from flows.report.terminal import summary_page
from tasks import paths
from tasks.config import load_config
from tasks.lineage import drift_report, sample, version_data
from tasks.lineage.drift_report import report_against_champion
from tasks.lineage.sample import draw_sample
from tasks.runtime.files import read_json, write_json
from tasks.state.round import Champion, Round, write_round
from tasks.vcs import dvc_pipeline
from tasks.vcs.dvc_outputs import dataset_version

pytestmark = pytest.mark.usefixtures("warm")

SOURCES = [{"name": "topic", "path": "inbox/*", "shape": "text_label", "family": "topic"}]
WORDS = ["match", "goal", "coach", "market", "bank", "shares", "profit", "merger"]


def articles(count: int, start: int, label: str) -> list[dict[str, str]]:
    """Toy articles, no two alike, all of one section."""
    texts = (
        f"{WORDS[n % 8]} {WORDS[n // 8 % 8]} {WORDS[n // 64 % 8]} {n} {n * n} {n * 7 % 97}"
        for n in range(start, start + count)
    )
    return [{"text": text, "label": label} for text in texts]


def collect() -> str:
    """Ingests, reproduces up to `curate`, and commits what a registration would."""
    from tasks.ingest.stage import run

    run(load_config())
    for stage in ("validate", "curate"):
        dvc_pipeline.reproduce(stage)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "add", "-A", "-f", "dvc.lock", "data/raw.dvc", "data/decisions.jsonl"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "data"], check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two commits with data: sport alone, then as much of a section with a Chinese name."""
    root = tmp_path_factory.mktemp("drift") / "project"
    with pytest.MonkeyPatch.context() as patch:
        set_up_project(root)
        patch.chdir(root)
        make_tiny_gpt2(root / "base")
        write_params(root, params("base", SOURCES))
        write_jsonl(root / "inbox/one.jsonl", [*articles(80, 0, "sport"), *articles(20, 100, "业务")])
        commits = [collect()]
        write_jsonl(root / "inbox/two.jsonl", articles(90, 200, "业务"))
        commits.append(collect())
    return root, commits


@pytest.fixture
def project(template: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template that the test works in: versions 1 and 2 are its two commits."""
    root, commits = template
    place = shutil.copytree(root, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.setattr(version_data, "registered_versions", lambda model: [1, 2])
    monkeypatch.setattr(version_data, "commit_of", lambda model, version: commits[version - 1])
    return place


def begin_round(champion: int | None) -> None:
    write_round(Round(Champion(champion, str(champion) * 64) if champion else None, test_epoch=1, looks=0))


def shown_in(summary: Summary, width: int = 140) -> tuple[str, str]:
    """What the terminal and the written report say."""
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_page(summary))
    return console.export_text(), as_markdown(summary, Outcome("refused", 1, 2))


def test_a_shift_in_labels_is_named_in_the_summary_with_its_chinese_label(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_round(champion=1)
    report_against_champion("tiny")
    assert "drift: from the data of v1: topic label PSI" in capsys.readouterr().err
    for text in shown_in(read_summary(load_config())):
        for fact in ("Drift from the data of version 1", "major", "label", "业务", "sport", "data/reports/drift.svg"):
            assert fact in text, fact
    assert "业务" in paths.DRIFT_PLOT.read_text(encoding="utf-8")
    assert "[data/reports/drift.svg](drift.svg)" in shown_in(read_summary(load_config()))[1]
    assert all(len(line) <= 80 for line in shown_in(read_summary(load_config()), width=80)[0].splitlines())


def test_it_is_measured_once_a_dataset(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_round(champion=1)
    first = report_against_champion("tiny")
    monkeypatch.setattr(drift_report, "measure_drift", lambda *_: pytest.fail("measured again"))
    assert report_against_champion("tiny") == first
    begin_round(champion=2)
    assert report_against_champion("tiny")["state"] == "same data"


def test_no_drift_is_reported_if_the_champion_was_trained_on_the_same_data(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_round(champion=1)
    report_against_champion("tiny")
    begin_round(champion=2)
    capsys.readouterr()
    report_against_champion("tiny")
    assert capsys.readouterr().err == ""
    assert not paths.DRIFT_PLOT.exists()
    assert read_summary(load_config()).drift is None
    assert all("Drift" not in text for text in shown_in(read_summary(load_config())))


def test_without_a_champion_it_says_so(project: Path) -> None:
    begin_round(champion=None)
    report_against_champion("tiny")
    assert all("No champion served before" in text for text in shown_in(read_summary(load_config())))


def test_a_report_on_another_dataset_is_not_shown(project: Path) -> None:
    begin_round(champion=1)
    report_against_champion("tiny")
    write_json(paths.DRIFT, {**read_json(paths.DRIFT), "dataset": "another.dir"})
    assert read_summary(load_config()).drift is None


def test_a_failure_to_measure_is_reported_and_tried_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_round(champion=1)
    with monkeypatch.context() as patch:
        patch.setattr(version_data, "commit_of", lambda model, version: None)
        report_against_champion("tiny")
    assert "drift: not measured: tiny v1: its commit is not in this repository" in capsys.readouterr().err
    assert all("git fetch --tags" in text.replace("\n", " ") for text in shown_in(read_summary(load_config())))
    assert report_against_champion("tiny")["state"] == "measured"


def test_the_command_leaves_the_flows_report_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin_round(champion=1)
    report_against_champion("tiny")
    before = paths.DRIFT.read_bytes(), paths.DRIFT_PLOT.read_bytes()
    capsys.readouterr()
    assert main.run(["data", "drift", "v2", "v1"]) == 0
    shown = capsys.readouterr().out
    assert "major" in shown
    assert "data/reports/drift/drift.svg" in shown
    assert (paths.DRIFT.read_bytes(), paths.DRIFT_PLOT.read_bytes()) == before


def test_a_large_version_is_sampled_by_hash_rank_and_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = version_data.parts_of("tiny", "now")
    everything = {row["row_id"] for row in draw_sample(parts).read()}
    monkeypatch.setattr(sample, "MOST_ROWS", 30)
    monkeypatch.setattr(sample, "LEAST_ROWS", 1)
    drawn = draw_sample(parts)
    assert {row["row_id"] for row in drawn.read()} == set(sorted(everything)[:30])
    assert (drawn.rows, drawn.sampled) == ({"topic": len(everything)}, {"topic": 30})
    begin_round(champion=1)
    report_against_champion("tiny")
    assert all("A sample: 30 of" in text for text in shown_in(read_summary(load_config())))


def test_long_texts_make_the_sample_smaller(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = version_data.parts_of("tiny", "now")
    monkeypatch.setattr(sample, "LEAST_ROWS", 1)
    monkeypatch.setattr(sample, "MOST_BYTES", 2_000)
    drawn = draw_sample(parts)
    assert 0 < drawn.sampled["topic"] < drawn.rows["topic"]


def test_the_candidates_run_holds_report_picture_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.register import stage
    from tasks.tracking.registry import open_registry

    toyworld.stand_in("judged", tmp_path, monkeypatch)
    measured = {"drift": [{"family": "问答", "what": "input length", "psi": 0.3}]}
    write_json(paths.DRIFT, {"dataset": dataset_version(), "measured": measured})
    paths.DRIFT_PLOT.write_text("<svg/>")
    stage.run(load_config())
    registry = open_registry(load_config())
    run = registry.client.get_run(registry.version(1).run_id)
    assert run.data.metrics["drift/问答/input_length/psi"] == 0.3
    assert {"drift.json", "drift.svg"} <= {file.path for file in registry.client.list_artifacts(run.info.run_id)}


def test_the_facts_are_json_that_a_command_can_print(project: Path) -> None:
    begin_round(champion=1)
    report_against_champion("tiny")
    summary = json.loads(json.dumps(read_summary(load_config()).as_dict()["drift"]))
    assert summary["moved"][0]["level"] == "major"
