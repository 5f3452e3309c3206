"""Registration: one version a receipt, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import toyworld
from toyworld import git, run_stages, set_params, set_verdicts, users_view

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.errors import GitError, RegistryError, VersioningError
from tasks.model_store.ledger import LedgerBroken, champion_of, head_of, read_ledger
from tasks.model_store.logged_files import LOGGED
from tasks.model_store.versions import commit_of, receipt_at, weights_folder
from tasks.promote.stage import promote
from tasks.register import logged_model, stage
from tasks.register import mlflow_run as run
from tasks.register.pending import pending
from tasks.runtime.files import content_digest
from tasks.tracking.registry import Registry, open_registry
from tasks.vcs import dvc_outputs, dvc_pipeline
from tasks.vcs import git as door

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toyworld.stand_in("judged", tmp_path, monkeypatch)


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


class Killed(BaseException):
    """As kill -9: nothing catches it."""


STEPS: list[tuple[Any, str]] = [
    (stage, "obtain_receipt"),
    (run, "read_points"),
    (stage, "complete_run"),
    (logged_model, "log_in_subprocess"),
    (Registry, "create_version"),
    (stage, "make_snapshot_commit"),
    (door, "create_tag"),
    (Registry, "set_version_tags"),
    (Registry, "set_alias"),
    (dvc_pipeline, "push"),
]


def test_after_a_kill_at_any_step_a_second_run_leaves_one_version(
    judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts = set()
    for owner, name in STEPS:
        real = getattr(owner, name)

        def then_die(*arguments: Any, real: Any = real, **named: Any) -> Any:
            real(*arguments, **named)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, then_die)
            with pytest.raises(Killed):
                stage.run(load_config())
        assert read_ledger("tiny") == []
        assert pending(load_config())
        receipts.add(paths.RECEIPT.read_bytes())
    registered = stage.run(load_config())
    again = stage.run(load_config())

    assert registered.is_new
    assert registered.passed
    assert (again.version, again.receipt, again.is_new) == (registered.version, registered.receipt, False)
    assert len(receipts) == 1
    registry = open_registry(load_config())
    (version,) = registry.versions()
    assert version.version == registered.version
    assert len(read_ledger("tiny")) == 1
    assert git("tag", "--list").split() == ["tiny@v1"]
    ready = registry.client.search_logged_models([registry.experiment_id])
    assert len(ready) == 1, "the model was stored twice"
    assert len(registry.client.search_runs([registry.experiment_id])) == 1


def test_killed_while_the_model_is_logged_leaves_no_half_model(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_model_artifacts", die)
        with pytest.raises(Killed):
            stage.run(load_config())
    stage.run(load_config())
    registry = open_registry(load_config())
    models = registry.client.search_logged_models([registry.experiment_id])
    assert [str(model.status) for model in models] == ["READY"]


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
    del after["files"][str(paths.RECEIPT)], after["files"][str(LOGGED)]
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
    assert not registered.passed
    assert git("tag", "--list") == ""
    assert "refs/strop/refused/tiny/v1" in door.refs_below("refs/strop")
    assert read_ledger("tiny")[0].why == "failed better"
    assert not pending(load_config())


def test_equal_weights_under_a_new_verdict_are_stored_once(judged: Path) -> None:
    set_verdicts(seed1=False)
    dvc_pipeline.reproduce("gate")
    assert stage.run(load_config()).version == 1
    run_stages(rejudge=True)
    assert json.loads(paths.ROUND.read_text())["looks"] == 1
    assert stage.run(load_config()).version == 2
    registry = open_registry(load_config())
    first, second = registry.versions()
    assert first.source == second.source


def test_equal_weights_with_another_template_are_a_model_of_their_own(judged: Path) -> None:
    """What is registered is what was judged, file by file, and each version answers with its own files."""
    set_verdicts(seed1=False, seed5=False)
    dvc_pipeline.reproduce("gate")
    assert stage.run(load_config()).version == 1
    shutil.copytree("adapters/1", "adapters/5")
    Path("adapters/5/templates.json").write_text('{"max_length_tokens": 5}')
    set_params(seed=5)
    run_stages()
    assert stage.run(load_config()).version == 2
    registry = open_registry(load_config())
    first, second = registry.versions()
    assert first.source != second.source
    for version, content in ((first, "{}"), (second, '{"max_length_tokens": 5}'), (first, "{}")):
        logged = registry.model_files(version.source, Path("scratch"))["templates.json"]
        kept = weights_folder("tiny", version.version, version.tags["strop.weights"]) / "templates.json"
        assert logged.read_text() == kept.read_text() == content


def test_registry_and_project_share_the_weights_on_one_disk(judged: Path) -> None:
    stage.run(load_config())
    registry = open_registry(load_config())
    (stored,) = registry.weight_files(registry.version(1).source, Path("scratch"))
    assert stored.samefile(paths.MODELS / weights_digest(paths.MODEL) / stored.name)


def test_a_reload_through_the_alias_gives_equal_logits(serving: Path) -> None:
    from tasks.base.convert import base_folder
    from tasks.base.load import load_trained
    from tasks.base.pin import read_base

    registry = open_registry(load_config())
    model, tokenizer = registry.load_model("models:/tiny@champion", base_folder(read_base()))
    champion = champion_of(read_ledger("tiny"))
    assert champion is not None
    ours = load_trained(weights_folder("tiny", 1, champion.weights_digest), read_base())
    difference = logged_model.logits(model, tokenizer) - logged_model.logits(ours, tokenizer)
    assert float(difference.abs().max()) == 0


def test_full_weights_are_logged_byte_for_byte_too(judged: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    record = json.loads(paths.BASE.read_text())
    folder = tmp_path / "full"
    GPT2LMHeadModel.from_pretrained(record["id"]).save_pretrained(folder)
    AutoTokenizer.from_pretrained("adapters/1").save_pretrained(folder)
    registry = open_registry(load_config())
    run_id = registry.create_run("full", {})
    digest = weights_digest(folder)
    source = logged_model.log_model(load_config(), run_id, folder, digest)
    assert logged_model.digest_of(registry.weight_files(source, tmp_path)) == digest


def test_the_model_is_logged_in_a_process_of_its_own(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(judged)
    code = (
        "from tasks.config import load_config; from tasks.register.stage import run; import sys\n"
        "from tasks.runtime.logs.setup import set_up_logs; set_up_logs(); run(load_config())\n"
    )
    code += "assert 'torch' not in sys.modules, 'the flow would keep the model in memory'\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "register: tiny v1, passed the gate" in result.stderr
    assert result.stdout == ""
    assert open_registry(load_config()).version(1).tags["strop.weights"] == weights_digest(paths.MODEL)


def test_a_registry_that_returns_another_model_is_refused(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Registry.load_model

    def tampered(self: Registry, uri: str, base: Path | None) -> Any:
        model, tokenizer = real(self, uri, base)
        next(iter(model.parameters())).data += 0.1
        return model, tokenizer

    monkeypatch.setattr(Registry, "load_model", tampered)
    with pytest.raises(RegistryError, match="not the one that was logged: its logits differ"):
        stage.run(load_config())
    registry = open_registry(load_config())
    assert registry.versions() == []
    assert registry.client.search_logged_models([registry.experiment_id]) == []


def test_the_data_is_pushed_and_a_failed_push_is_done_by_the_next_run(judged: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.write_text("a file where a folder should be")
    toyworld.set_remote(remote)
    with pytest.raises(VersioningError, match="the DVC remote cannot be used"):
        stage.run(load_config())
    assert pending(load_config())
    remote.unlink()
    assert stage.run(load_config()).version == 1
    assert any(remote.rglob("*.dir"))
    commit = commit_of("tiny", 1)
    assert commit is not None
    receipt = receipt_at(commit)
    assert receipt is not None
    assert receipt["remote"] == f"store {remote}"


def test_from_a_new_clone_of_the_tag_dvc_gets_the_data(judged: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    toyworld.set_remote(tmp_path / "remote")
    stage.run(load_config())
    clone = tmp_path / "clone"
    git("clone", "-q", "--branch", "tiny@v1", str(judged), str(clone))
    Repo.get(str(clone), "data/raw", out=str(tmp_path / "raw"), rev="tiny@v1")
    command = ["dvc", "get", "-q", str(clone), "data/model", "--rev", "tiny@v1", "-o", str(tmp_path / "model")]
    subprocess.run([sys.executable, "-m", *command], check=True)
    assert weights_digest(tmp_path / "model") == weights_digest(paths.MODEL)
    raw = {p.name: p.read_bytes() for p in paths.RAW.rglob("*") if p.is_file()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "raw").rglob("*") if p.is_file()} == raw


def test_a_registry_that_does_not_match_the_ledger_is_refused(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(toyworld.template("judged") / "mlflow/mlflow.db", "mlflow/other.db")  # one that has no version
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow/other.db")
    set_params(seed=3)
    run_stages()
    with pytest.raises(RegistryError, match="it is another registry"):
        stage.run(load_config())


def test_a_ledger_that_was_not_fetched_is_noticed(serving: Path) -> None:
    git("update-ref", "-d", "refs/strop/ledger/tiny")
    with pytest.raises(LedgerBroken, match="git fetch origin --tags 'refs/strop"):
        stage.run(load_config())


def test_a_tag_that_points_at_another_commit_is_never_moved(judged: Path) -> None:
    git("tag", "tiny@v1")
    with pytest.raises(GitError, match="points at another commit than that of version 1"):
        stage.run(load_config())
    assert git("rev-parse", "tiny@v1") == git("rev-parse", "HEAD")


def test_pending_ends_when_the_candidate_is_registered_and_promoted(judged: Path) -> None:
    assert pending(load_config())
    stage.run(load_config())
    assert pending(load_config()), "it passed, and promotion is automatic"
    promote(load_config(), 1, why="passed", expected_champion=None)
    assert not pending(load_config())
    (paths.CACHE / "mirrored.json").unlink()
    assert pending(load_config()), "the promotion was killed before the alias moved"


def test_pending_leaves_a_waiting_candidate_to_people(judged: Path) -> None:
    set_params(seed=1, promote={"automatic": False})
    stage.run(load_config())
    assert not pending(load_config())


def test_pending_loads_nothing_heavy(judged: Path) -> None:
    code = "import sys\nfrom tasks.register.pending import pending\npending()\n"
    code += "print([m for m in ('torch', 'mlflow', 'dvc', 'pyarrow', 'pandas') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_champion_is_not_registered_anew(serving: Path) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    run_stages(rejudge=True)
    again = stage.run(load_config())
    assert (again.version, again.is_new) == (2, False)
    assert not pending(load_config())
