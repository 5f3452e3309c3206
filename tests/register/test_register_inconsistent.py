"""Registration stops where registry, ledger and tags contradict each other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import toyworld
from support.toyworld import git, run_stages, set_params

from tasks.config import load_config
from tasks.errors import GitError, RegistryError
from tasks.model_store.ledger import LedgerBroken
from tasks.register import stage

pytestmark = pytest.mark.usefixtures("warm")


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
