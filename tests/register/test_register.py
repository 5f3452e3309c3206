"""Registration: one version a receipt, whatever happens on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.toyworld import STAGES, git, run_stages, set_params, set_verdicts, users_view

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.errors import DataError
from tasks.model_store.ledger import head_of, read_ledger
from tasks.model_store.logged_files import LOGGED
from tasks.model_store.versions import commit_of, receipt_at
from tasks.promote.stage import promote
from tasks.register import stage
from tasks.register.pending import pending
from tasks.runtime.files import content_digest
from tasks.tracking.registry import open_registry
from tasks.vcs import dvc_outputs, dvc_pipeline
from tasks.vcs import git as door

pytestmark = pytest.mark.usefixtures("warm")


def test_a_process_with_another_active_experiment_and_run_can_register(
    judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    registry = open_registry(load_config())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    other = mlflow.set_experiment("a notebook of somebody")
    with mlflow.start_run() as theirs:
        assert stage.run(load_config()).version == 1
        assert mlflow.active_run().info.run_id == theirs.info.run_id
        mlflow.log_param("still", "theirs")
    assert len(registry.client.search_logged_models([registry.experiment_id])) == 1
    assert registry.client.search_logged_models([other.experiment_id]) == []
    (run,) = registry.client.search_runs([registry.experiment_id])
    assert "mlflow.parentRunId" not in run.data.tags


def test_a_version_records_its_inputs(judged: Path) -> None:
    registered = stage.run(load_config())
    commit = commit_of("tiny", 1)
    assert commit is not None
    receipt = receipt_at(commit)
    assert receipt is not None
    registry = open_registry(load_config())
    version = registry.version(1)
    assert version.tags == {
        "strop.receipt": registered.receipt,
        "strop.weights": weights_digest(paths.MODEL),
        "strop.dataset": dvc_outputs.dataset_version(),
        "strop.commit": commit,
        "strop.verdict": "passed",
        "strop.files": content_digest(json.loads(door.read_at(commit, LOGGED) or b"")["files"]),
        "strop.judged": head_of("tiny"),
    }
    assert version.aliases == ["challenger"]
    expected = {"commit", "params", "dvc_lock", "manifest", "round", "base", "decisions", "environment", "hardware", "threads",
              "effective_micro_batch_rows", "seeds", "metrics", "verdict", "weights", "dataset", "remote"}  # fmt: skip
    assert expected <= receipt.keys()
    assert receipt["remote"] == "local only"
    assert receipt["environment"]["packages"]["torch"]
    recorded = registry.client.get_run(version.run_id)
    assert recorded.data.params["finetune.lora.rank"] == "4"
    assert recorded.data.metrics["candidate/overall/score"] == 0.9
    assert len(registry.client.get_metric_history(version.run_id, "train/loss")) == 4
    (dataset,) = recorded.inputs.dataset_inputs
    assert dataset.dataset.digest == dvc_outputs.dataset_version()
    files = {f.path for f in registry.client.list_artifacts(version.run_id)} | {
        f.path for f in registry.client.list_artifacts(version.run_id, "plots")
    }
    assert {"plots/scores.svg", "receipt.json", "verdict.json", "metrics.json"} <= files
    logged = registry.client.list_logged_model_artifacts(version.source.rsplit("/", 1)[1])
    assert "templates.json" in {file.path for file in logged}, "the templates that it was taught by travel with it"


def test_registration_does_not_touch_the_users_head_index_or_files(judged: Path) -> None:
    Path("toy.py").write_text(Path("toy.py").read_text() + "\n# tracked and changed\n")
    Path("notes.txt").write_text("mine\n")
    Path("staged.txt").write_text("staged\n")
    git("add", "staged.txt")
    before = users_view()
    stage.run(load_config())
    after = users_view()
    for path in (paths.RECEIPT, LOGGED, paths.VERSION_PAGE):
        del after["files"][str(path)]
    assert after == before
    commit = commit_of("tiny", 1)
    assert commit is not None
    assert b"# tracked and changed" in (door.read_at(commit, Path("toy.py")) or b"")
    assert door.read_at(commit, Path("staged.txt")) == b"staged\n"
    assert door.read_at(commit, Path("notes.txt")) is None
    receipt = receipt_at(commit)
    assert receipt is not None
    assert receipt["left_out"] == ["notes.txt"]


def test_a_later_commit_of_the_user_makes_no_second_version(judged: Path) -> None:
    first = stage.run(load_config())
    Path("README.md").write_text("New\n")
    git("add", "README.md")
    git("commit", "-q", "-m", "A readme")
    paths.RECEIPT.unlink()
    again = stage.run(load_config())
    assert (again.version, again.is_new) == (first.version, False)
    assert paths.RECEIPT.exists()


def test_a_later_commit_makes_no_second_version_of_a_challenger(serving: Path) -> None:
    git("commit", "-q", "--allow-empty", "-m", "Something else")
    again = stage.run(load_config())
    assert (again.version, again.is_new) == (2, False)
    assert len(read_ledger("tiny")) == 3


def test_a_refused_candidate_gets_a_ref_and_no_tag(judged: Path) -> None:
    set_verdicts(seed1=False)
    dvc_pipeline.reproduce("gate")
    registered = stage.run(load_config())
    assert registered.outcome == "refused"
    assert git("tag", "--list") == ""
    assert "refs/strop/refused/tiny/v1" in door.refs_below("refs/strop")
    assert (read_ledger("tiny")[0].why, read_ledger("tiny")[0].gate) == ("did not pass better", "refused")
    assert not pending(load_config())


def test_a_second_candidate_of_one_round_is_not_registered_at_the_level_of_the_first(judged: Path) -> None:
    stage.run(load_config())
    set_params(seed=2)
    for name in STAGES:  # by hand, without `ingest`, which opens a round
        dvc_pipeline.reproduce(name)
    with pytest.raises(DataError, match=r"other candidates were judged after this round began.*strop run --rejudge"):
        stage.run(load_config())
    assert [entry.version for entry in read_ledger("tiny")] == [1]
    run_stages(rejudge=True)
    assert stage.run(load_config()).version == 2


def test_a_champion_is_not_registered_anew(serving: Path) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    run_stages(rejudge=True)
    again = stage.run(load_config())
    assert (again.version, again.is_new) == (2, False)
    assert not pending(load_config())


def test_the_report_of_this_verdict_is_logged_with_its_run_and_an_older_one_is_not(judged: Path) -> None:
    digest = content_digest(json.loads(paths.VERDICT.read_text()))
    paths.REPORT.write_text(f'<meta name="strop-verdict" content="{digest}">')
    assert stage.run(load_config()).version == 1
    registry = open_registry(load_config())
    assert registry.has_file(registry.version(1).run_id, paths.REPORT.name)
    set_verdicts(seed1=False)
    run_stages(rejudge=True)
    assert stage.run(load_config()).version == 2
    assert not registry.has_file(registry.version(2).run_id, paths.REPORT.name)


def test_the_model_card_is_with_the_run_and_not_among_the_files_of_the_model(judged: Path, tmp_path: Path) -> None:
    stage.run(load_config())
    registry = open_registry(load_config())
    version = registry.version(1)
    card = registry.download_file(version.run_id, "README.md", tmp_path).read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "Verdict of its gate: **passed**" in card
    assert "README.md" not in registry.model_files(version.source, tmp_path / "model")


def test_a_verdict_of_an_earlier_release_is_registered_with_the_fields_that_it_has() -> None:
    checks = [{"name": "better", "passed": False}]
    verdict = {"passed": False, "test_epoch": 1, "test_rows": 60, "checks": checks}
    receipt = {"verdict": verdict, "weights": "w" * 64, "dataset": "d" * 64, "left_out": []}
    entry = stage._entry(receipt, "r" * 64, 1, "c" * 40)
    assert (entry.outcome, entry.gate, entry.why) == ("", "refused", "did not pass better")
    stage._report("strop-model", 1, receipt, "pushed")
