"""A new round begins only if data, parameters or code change."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support import toyworld
from support.toyworld import git as user
from support.toyworld import set_params

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.errors import DataError, GitError, VersioningError
from tasks.ingest.open_round import open_round
from tasks.model_store.ledger_chain import LedgerBroken
from tasks.model_store.versions import weights_folder
from tasks.promote.stage import promote
from tasks.state.round import Champion, Round
from tasks.vcs import dvc_outputs, dvc_pipeline


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 was judged against it, and is in data/model."""
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def champion_in(round_: Round) -> int | None:
    return round_.champion.version if round_.champion else None


def test_a_promotion_begins_no_round(world: Path) -> None:
    before = paths.ROUND.read_bytes()
    promote(load_config(), 2, why="passed", expected_champion=1)
    assert champion_in(open_round(load_config())) == 1
    assert paths.ROUND.read_bytes() == before


def test_a_deleted_output_begins_no_round(world: Path) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    shutil.rmtree(paths.CURATED)
    paths.VERDICT.unlink()
    assert champion_in(open_round(load_config())) == 1


@pytest.mark.parametrize("change", ["parameters", "data", "code", "rejudge", "missing", "damaged"])
def test_changed_parameters_data_or_code_begin_a_round(world: Path, change: str) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    if change == "parameters":
        set_params(seed=3)
    elif change == "data":
        (paths.RAW / "new").write_text("new")
        dvc_pipeline.add_raw()
    elif change == "code":
        Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("toy.py gate", "toy.py gate --again"))
    elif change == "missing":
        paths.ROUND.unlink()
    elif change == "damaged":
        paths.ROUND.write_text("{")
    round_ = open_round(load_config(), rejudge=change == "rejudge")
    assert (champion_in(round_), round_.test_epoch, round_.looks) == (2, 1, 2)


def test_the_first_round_has_no_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toyworld.stand_in("judged", tmp_path, monkeypatch)
    assert open_round(load_config(), rejudge=True) == Round(None, 1, 0)


def test_without_the_champions_commit_no_round_begins(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batches would be unknown, and `no_regression` silently off."""
    monkeypatch.setattr("tasks.ingest.resolve_training_start.version_receipt", lambda model, version: None)
    with pytest.raises(DataError, match=r"the commit of the champion \(version 1\) is missing. Fetch it"):
        open_round(load_config(), rejudge=True)


def test_the_champions_weights_come_back_by_its_tag(world: Path) -> None:
    shutil.rmtree(paths.MODELS)
    round_ = open_round(load_config())
    assert isinstance(round_.champion, Champion)
    kept = paths.MODELS / round_.champion.weights_digest
    assert weights_digest(kept) == round_.champion.weights_digest
    assert weights_digest(paths.MODEL) != round_.champion.weights_digest


def test_damaged_weights_of_the_champion_are_fetched_again(world: Path) -> None:
    round_ = open_round(load_config())
    assert round_.champion is not None
    kept = paths.MODELS / round_.champion.weights_digest / "adapter_model.safetensors"
    kept.unlink()
    kept.write_bytes(b"damaged")
    open_round(load_config())
    assert weights_digest(kept.parent) == round_.champion.weights_digest


@pytest.mark.parametrize("name", ["adapter_config.json", "chat_template.jinja", "generation_config.json"])
def test_another_file_of_the_champions_model_that_was_changed_is_fetched_again(world: Path, name: str) -> None:
    """The gate would compare the candidate with a model that says something else than the one that serves."""
    round_ = open_round(load_config())
    assert round_.champion is not None
    kept = paths.MODELS / round_.champion.weights_digest / name
    before = kept.read_bytes() if kept.exists() else None
    kept.unlink(missing_ok=True)
    kept.write_bytes(b"{}")
    open_round(load_config())
    assert (kept.read_bytes() if kept.exists() else None) == before


def test_a_model_that_was_changed_in_dvcs_cache_too_is_reported(world: Path) -> None:
    """As where a file is edited in place, which is DVC's copy by another name."""
    round_ = open_round(load_config())
    assert round_.champion is not None
    name = "chat_template.jinja"
    (copy,) = (file.path for file in dvc_outputs.stored_files("tiny@v1", paths.MODEL) if file.relpath == name)
    for file in (copy, paths.MODELS / round_.champion.weights_digest / name):
        file.unlink()
        file.write_text("Obey.")
    message = r"files of the model of tiny v1 in DVC's cache are damaged.*strop audit 1"
    with pytest.raises(VersioningError, match=message):
        weights_folder("tiny", 1, round_.champion.weights_digest)


def test_missing_weights_are_reported(world: Path) -> None:
    shutil.rmtree(paths.MODELS)
    subprocess.run(["rm", "-rf", ".dvc/cache"], check=True)
    with pytest.raises(VersioningError, match="neither in the local cache nor in a remote"):
        open_round(load_config())
    user("tag", "-d", "tiny@v1")
    with pytest.raises(LedgerBroken, match="whose tag tiny@v1 is not here"):
        open_round(load_config())


def test_without_a_repository_no_round_begins(world: Path) -> None:
    shutil.rmtree(".git")
    with pytest.raises(GitError, match="git init"):
        open_round(load_config())
