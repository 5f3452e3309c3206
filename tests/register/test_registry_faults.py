"""A registry of a team, which is a server or a database: it goes down in mid-registration, two clones register at once, and people
change versions and aliases by hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import postgres
from support.cable import Cable, cable_to
from support.mlflowserver import server
from support.registration_steps import STEPS
from support.toyworld import git, run_stages, set_params

from flows.return_to_champion import follow_ledger
from tasks.config import load_config
from tasks.errors import DataError, RegistryError
from tasks.model_store.ledger import read_ledger
from tasks.model_store.serving import read_serving
from tasks.promote.stage import promote, reconcile
from tasks.register import stage
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import JUDGED_TAG
from tasks.vcs import dvc_pipeline

pytestmark = pytest.mark.usefixtures("warm")

KINDS = ("a server", "a database")


@pytest.fixture(params=[pytest.param(KINDS[0], marks=pytest.mark.slow), KINDS[1]])
def cable(request: pytest.FixtureRequest, judged: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    """The connection to the registry of a project whose candidate is judged."""
    for name in ("MAX_RETRIES", "BACKOFF_FACTOR"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "0")
    is_server = request.param == KINDS[0]
    target = urlsplit(server(has_login=False).url).port if is_server else postgres.port()
    assert target is not None
    with cable_to(target) as cable:
        postgres.log_in(monkeypatch)
        uri = f"http://127.0.0.1:{cable.port}" if is_server else postgres.address(cable.port, postgres.database())
        set_params(register={"model_name": model_of(judged), "tracking_uri": uri})
        yield cable


def model_of(project: Path) -> str:
    """A server is shared by all tests of a session."""
    return f"tiny-{project.parent.name}".replace("_", "-")[:60]


def test_a_registry_that_goes_down_after_any_step_stops_the_run_in_one_line_and_the_next_run_completes_it(
    cable: Cable, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(judged)
    before_the_tag = [
        step for step in STEPS[:-3] if step[1] != "make_ref"
    ]  # which follows its commit without the registry
    for owner, name in [*before_the_tag, (dvc_pipeline, "push")]:
        real = getattr(owner, name)

        def then_lose(*arguments: Any, real: Any = real, **named: Any) -> Any:
            result = real(*arguments, **named)
            cable.pull_out()
            return result

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, then_lose)
            with pytest.raises(RegistryError, match=r"registry|database") as caught:
                stage.run(load_config())
        assert "\n" not in str(caught.value)
        assert postgres.PASSWORD not in str(caught.value)
        assert len(read_ledger(model)) == (name == "push"), "the verdict follows all steps in the registry"
        cable.plug_in()
    registered = stage.run(load_config())
    registry = open_registry(load_config())
    (version,) = registry.versions()
    assert registered.version == registry.alias("challenger") == version.version
    assert registry.alias("champion") is None
    assert version.tags[JUDGED_TAG] == git("rev-parse", f"refs/strop/ledger/{model}").strip()
    assert len(read_ledger(model)) == 1
    assert len(registry.client.search_logged_models([registry.experiment_id])) == 1, "the model was stored twice"
    assert git("tag", "--list").split() == [f"{model}@v{version.version}"]


@pytest.mark.parametrize("cable", [pytest.param(KINDS[0], marks=pytest.mark.slow), KINDS[1]], indirect=True)
def test_an_alias_that_was_moved_and_a_version_that_was_deleted_by_hand_are_reported(
    cable: Cable, judged: Path
) -> None:
    stage.run(load_config())
    promote(load_config(), 1, why="first", expected_champion=None)
    assert read_serving(load_config()).problem is None
    registry = open_registry(load_config())
    first = registry.version(1)
    registry.set_alias("champion", registry.create_version(first.source, first.run_id, {}))
    assert "points at v2, but v1 is the champion in the ledger" in str(read_serving(load_config()).problem)
    follow_ledger(load_config())
    assert registry.alias("champion") == 1
    registry.remove_alias("champion")
    assert "points at no version, but v1 is the champion" in str(read_serving(load_config()).problem)
    follow_ledger(load_config())
    assert registry.alias("champion") == 1
    registry.delete_version(1)
    assert "The registry no longer has version 1" in str(read_serving(load_config()).problem)
    with pytest.raises(RegistryError, match=r"no longer has version 1 .*strop registry rebuild"):
        reconcile(load_config())
    cable.pull_out()
    problem = str(read_serving(load_config()).problem)
    assert problem.startswith("Cannot check the registry's alias `champion`: ")
    assert postgres.PASSWORD not in problem


def test_of_two_clones_that_register_at_once_one_is_late_and_leaves_nothing(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.log_in(monkeypatch)
    uri = postgres.address(postgres.port(), postgres.database())
    register = {
        "model_name": "tiny",
        "tracking_uri": uri,
        "ledger_remote": "origin",
        "artifacts": str(tmp_path / "store"),
    }
    git("init", "-q", "--bare", str(tmp_path / "shared.git"))
    git("remote", "add", "origin", str(tmp_path / "shared.git"))
    set_params(register=register)
    other = shutil.copytree(judged, tmp_path / "other", symlinks=True)
    append = stage._append

    def after_another(registry: Registry, *more: Any) -> str:
        """Both have a version, a commit and a tag; the other clone's verdict comes first."""
        monkeypatch.setattr(stage, "_append", append)
        with chdir(judged):
            assert stage.run(load_config()).version == 2
        assert [version.version for version in registry.versions()] == [1, 2]
        return append(registry, *more)

    with chdir(other):
        set_params(seed=2, register=register)
        run_stages()
        monkeypatch.setattr(stage, "_append", after_another)
        with pytest.raises(DataError, match=r"other candidates were judged after this round began.* --rejudge") as late:
            stage.run(load_config())
        assert "\n" not in str(late.value)
        registry = open_registry(load_config())
        assert ([version.version for version in registry.versions()], registry.alias("challenger")) == ([2], 2)
        assert git("tag", "--list").split() == ["tiny@v2"]
        with pytest.raises(DataError, match="other candidates were judged"):
            stage.run(load_config())
        run_stages(rejudge=True)
        assert stage.run(load_config()).version == 3
        assert [entry.version for entry in read_ledger("tiny")] == [2, 3]
    assert registry.alias("challenger") == 3
    follow_ledger(load_config())
    assert [entry.version for entry in read_ledger("tiny")] == [2, 3]
    assert git("tag", "--list").split() == ["tiny@v2", "tiny@v3"]
