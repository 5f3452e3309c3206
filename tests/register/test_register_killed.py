"""A registration that is killed at any step: the next one completes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.toyworld import git

from tasks import paths
from tasks.config import load_config
from tasks.model_store.ledger import read_ledger
from tasks.register import logged_model, stage
from tasks.register import mlflow_run as run
from tasks.register.pending import pending
from tasks.tracking.registry import Registry, open_registry
from tasks.vcs import dvc_pipeline
from tasks.vcs import git as door

pytestmark = pytest.mark.usefixtures("warm")


class Killed(BaseException):
    """As kill -9: nothing catches it."""


STEPS: list[tuple[Any, str]] = [
    (stage, "obtain_receipt"),
    (run, "read_points"),
    (stage, "complete_run"),
    (logged_model, "log_in_subprocess"),
    (Registry, "create_version"),
    (stage, "make_snapshot_commit"),
    (door, "make_ref"),
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
    assert registered.outcome == "passed"
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
