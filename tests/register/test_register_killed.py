"""A registration that is killed at any step: the next one completes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.registration_steps import STEPS
from support.toyworld import git, set_params

from flows.return_to_champion import follow_ledger
from tasks import paths
from tasks.audit.stage import audit_version
from tasks.config import load_config
from tasks.model_store.ledger import read_ledger
from tasks.register import stage
from tasks.register.pending import pending
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import JUDGED_TAG

pytestmark = pytest.mark.usefixtures("warm")


class Killed(BaseException):
    """As kill -9: nothing catches it."""


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


def test_killed_between_the_verdict_and_its_tag_the_next_run_sets_the_tag(
    judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Registry.set_version_tags

    def die(registry: Registry, number: int, tags: dict[str, str]) -> None:
        if JUDGED_TAG in tags:
            raise Killed
        real(registry, number, tags)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "set_version_tags", die)
        with pytest.raises(Killed):
            stage.run(load_config())
    registry = open_registry(load_config())
    (before,) = registry.versions()
    assert JUDGED_TAG not in before.tags
    follow_ledger(load_config())  # as at the start of each run
    (after,) = registry.versions()
    assert after.tags == before.tags | {JUDGED_TAG: git("rev-parse", "refs/strop/ledger/tiny").strip()}


def test_a_request_that_was_obeyed_twice_leaves_one_version(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client repeats a request whose answer was lost."""
    real = Registry.create_version

    def twice(*arguments: Any) -> int:
        real(*arguments)
        return real(*arguments)

    monkeypatch.setattr(Registry, "create_version", twice)
    registered = stage.run(load_config())
    assert [version.version for version in open_registry(load_config()).versions()] == [registered.version] == [1]


def test_a_model_whose_files_retention_removes_meanwhile_is_logged_anew(
    judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`strop gc` in another clone, which sees no version with the logged model that this registration is about to use."""
    real = Registry.create_version

    def others_first(registry: Registry, source: str, *more: Any) -> int:
        monkeypatch.setattr(Registry, "create_version", real)
        assert registry.remove_files(source, lambda: False)
        return real(registry, source, *more)

    monkeypatch.setattr(Registry, "create_version", others_first)
    registered = stage.run(load_config())
    registry = open_registry(load_config())
    (version,) = registry.versions()
    assert version.version == registered.version == 2
    assert registry.has_weights(version.source)
    assert git("tag", "--list").split() == ["tiny@v2"]
    assert registry.alias("challenger") == 2


@pytest.mark.parametrize("last", ["create_version", "set_alias"])
def test_killed_and_then_registered_with_other_settings_leaves_one_version_whose_settings_are_in_its_receipt(
    judged: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    def die(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        raise Killed

    real = getattr(Registry, last)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, last, die)
        with pytest.raises(Killed):
            stage.run(load_config())
    set_params(promote={"approval": "required"})
    registered = stage.run(load_config())
    again = stage.run(load_config())
    registry = open_registry(load_config())
    (version,) = registry.versions()
    assert version.version == registered.version == again.version == registry.alias("challenger") == 2
    assert git("tag", "--list").split() == ["tiny@v2"]
    links = {link.name: link for link in audit_version(load_config(), 2).links}
    assert links["parameters"].ok
    set_params(promote={"approval": "none"})  # it has a verdict, so later settings change nothing
    assert stage.run(load_config()).version == 2
    assert [each.version for each in open_registry(load_config()).versions()] == [2]
