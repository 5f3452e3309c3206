"""A registry that was lost is rebuilt from git and DVC: the same numbers, tags, aliases, runs and models."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import toyworld
from support.extendpage import code_of
from support.mlflowserver import log_in, server
from support.project import copy_project
from support.toyworld import git, run_stages, set_params, set_verdicts

from tasks import paths
from tasks.audit.stage import audit
from tasks.config import load_config
from tasks.errors import RegistryError
from tasks.model_store.ledger import read_ledger
from tasks.promote.stage import promote
from tasks.register import logged_model, rebuild, stage
from tasks.register.rebuild import RebuildResult
from tasks.register.restore import DRIFT
from tasks.runtime.plugins import unload_plugins
from tasks.tracking.registry import Registry, open_registry

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logged_model, "log_in_subprocess", toyworld.log_here)
    root = copy_project(toyworld.template("refused"), tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def make_again(replace: bool = False) -> RebuildResult:
    return rebuild.rebuild(load_config(), replace)


def lost(rebuilt: RebuildResult) -> dict[int, list[str]]:
    """What could not be restored, but for a drift that the toys never measured."""
    named = {
        version: [each for each in what if not each.startswith(DRIFT)] for version, what in rebuilt.missing.items()
    }
    return {version: what for version, what in named.items() if what}


OF_THIS_REGISTRY = ("strop.judged", "strop.ledger", "strop.promoted", "strop.restored")


def holds() -> dict[str, Any]:
    """Everything of the registry that a person or a command sees, but for the ids that MLflow draws."""
    registry = open_registry(load_config())
    facts: dict[str, Any] = {}
    sources: list[str] = []
    for version in registry.versions():
        run = registry.client.get_run(version.run_id)
        files = {file.path for file in registry.client.list_artifacts(version.run_id)}
        files |= {file.path for file in registry.client.list_artifacts(version.run_id, "plots")}
        curves = {
            name: sorted((m.step, m.value) for m in registry.client.get_metric_history(version.run_id, name))
            for name in run.data.metrics
        }
        if version.source not in sources:
            sources.append(version.source)
        facts[str(version.version)] = {
            "tags": {
                key: value
                for key, value in version.tags.items()
                if key not in ("strop.judged", "strop.ledger", "strop.restored")
            },
            "aliases": version.aliases,
            "page": re.sub(r"#/experiments/\w+/runs/\w+/", "", version.description),
            **{f"parameter {key}": value for key, value in run.data.params.items()},
            **{f"curve {key}": value for key, value in curves.items()},
            "files": files,
            "datasets": [each.dataset.digest for each in run.inputs.dataset_inputs],
            "model": sources.index(version.source),
            "run tags": {key: value for key, value in run.data.tags.items() if key.startswith("strop.")},
            "status": run.info.status,
        }
    return facts


def differences(before: dict[str, Any]) -> list[Any]:
    """Version, field, value before, value now: of each that differs."""
    now = holds()
    assert now.keys() == before.keys()
    fields = [(version, field) for version in before for field in {**before[version], **now[version]}]
    return [(v, f, before[v].get(f), now[v].get(f)) for v, f in fields if before[v].get(f) != now[v].get(f)]


def use_registry(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "sqlite:///mlflow/again.db"
    if kind == "a server with a login":
        log_in(monkeypatch)
        uri = server(has_login=True).url
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@pytest.mark.parametrize("kind", ["a file", pytest.param("a server with a login", marks=pytest.mark.slow)])
def test_an_empty_registry_gets_the_content_of_the_lost_one(
    world: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = holds()
    use_registry(kind, monkeypatch)
    first = make_again()
    assert (first.made, first.kept, lost(first), first.aside) == ([1, 2, 3, 5], [], {}, None)
    assert differences(before) == []
    for version in (1, 2, 3, 5):
        links = audit(load_config(), version, deep=True)
        assert all(link.ok for link in links), [link for link in links if not link.ok]

    again = make_again()
    assert (again.made, again.kept) == ([], [1, 2, 3, 5])
    assert differences(before) == []
    registry = open_registry(load_config())
    assert len(registry.client.search_logged_models([registry.experiment_id])) == 3
    promote(load_config(), 2, why="better", expected_champion=1)  # the next version gets the next number
    set_params(seed=3)
    set_verdicts()
    run_stages(rejudge=True)
    assert toyworld.register().version == 6


@pytest.fixture
def plugin(world: Path) -> Iterator[None]:
    (world / "team_tags.py").write_text(code_of("A registry tag"))
    settings = json.loads(paths.PARAMS.read_text())
    paths.PARAMS.write_text(json.dumps({**settings, "plugins": ["team_tags"]}))
    yield
    unload_plugins()


@pytest.mark.usefixtures("plugin")
def test_a_tag_of_a_plugin_is_set_on_earlier_versions_and_audited() -> None:
    def problems() -> list[str]:
        return [link.detail for link in audit(load_config(), 1, deep=True) if not link.ok]

    assert problems() == [], "a version from before the tag"
    make_again()
    registry = open_registry(load_config())
    base = registry.version(1).tags["team.base"]
    assert base == json.loads(paths.BASE.read_bytes())["id"]
    assert problems() == []
    registry.set_version_tags(1, {"team.base": "another"})
    (problem,) = problems()
    assert f"tag team.base of the version is another, not {base}" in problem


class Killed(BaseException):
    """As kill -9: nothing catches it."""


STEPS: list[tuple[Any, str]] = [
    (Registry, "create_run"),
    (rebuild, "complete_run"),
    (logged_model, "log_in_subprocess"),
    (Registry, "create_version"),
    (Registry, "delete_version"),
    (Registry, "set_alias"),
]


def test_after_a_kill_at_any_step_a_second_rebuild_has_the_same_result(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = holds()
    use_registry("a file", monkeypatch)
    for owner, name in STEPS:
        real = getattr(owner, name)

        def then_die(*arguments: Any, real: Any = real, **named: Any) -> Any:
            real(*arguments, **named)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, then_die)
            with pytest.raises(Killed):
                make_again()
    make_again()
    assert differences(before) == []
    registry = open_registry(load_config())
    assert len(registry.client.search_runs([registry.experiment_id])) == 4
    assert len(registry.client.search_logged_models([registry.experiment_id])) == 3


def test_a_foreign_registry_is_unchanged_and_renamed_with_replace(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = holds()
    use_registry("a file", monkeypatch)
    registry = open_registry(load_config())
    source = str(registry.client.create_logged_model(registry.experiment_id, name="foreign").model_uri)
    registry.create_version(source, registry.create_run("foreign", {}), {"strop.receipt": "f" * 64})
    with pytest.raises(RegistryError, match=r"its v1 has the receipt ffffffffffff, git has .*--replace"):
        make_again()
    assert [version.tags for version in registry.versions()] == [{"strop.receipt": "f" * 64}]
    rebuilt = make_again(replace=True)
    assert differences(before) == []
    assert rebuilt.aside is not None
    (foreign,) = registry.client.search_model_versions(f"name='{rebuilt.aside}'")
    assert foreign.tags["strop.receipt"] == "f" * 64
    assert registry.client.get_run(foreign.run_id).info.run_name == "foreign"

    open_registry(load_config()).delete_version(2)
    with pytest.raises(RegistryError, match="v2 was deleted from it"):
        make_again()


def test_missing_parts_are_listed_by_version_and_the_rest_is_rebuilt(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {entry.version: entry.weights_digest for entry in read_ledger("tiny") if entry.kind == "judged"}
    git("update-ref", "-d", "refs/strop/refused/tiny/v3")
    shutil.rmtree(paths.MODELS / weights[1])
    weights_file = Path("adapters/1/adapter_model.safetensors").read_bytes()
    gone = [path for path in Path(".dvc/cache").rglob("*") if path.is_file() and path.read_bytes() == weights_file]
    for stored in gone:
        stored.unlink()
    use_registry("a file", monkeypatch)
    rebuilt = make_again()
    assert rebuilt.made == [1, 2, 3, 5]
    assert set(lost(rebuilt)) == {1, 3}
    assert lost(rebuilt)[1][0].startswith("its model and curves (data/model of ")
    assert "its commit is not in git" in lost(rebuilt)[3][0]
    registry = open_registry(load_config())
    assert registry.alias("champion") == 1
    assert registry.version(3).tags["strop.verdict"] == "refused"
    assert not {link.name: link.ok for link in audit(load_config(), 1, deep=True)}["weights"]
    assert all(link.ok for link in audit(load_config(), 2, deep=True))
    again = make_again()
    assert (again.made, again.kept, set(lost(again))) == ([], [1, 2, 3, 5], {1, 3})

    for stored in gone:
        stored.write_bytes(weights_file)
    assert make_again().made == [1]
    assert all(link.ok for link in audit(load_config(), 1, deep=True))


def test_artifacts_that_were_deleted_are_restored(world: Path) -> None:
    before = holds()
    shutil.rmtree("mlflow/artifacts")
    assert not {link.name: link.ok for link in audit(load_config(), 1, deep=True)}["weights"]
    assert make_again().made == [1, 2, 3, 5]
    assert differences(before) == []
    for version in (1, 2, 3, 5):
        links = audit(load_config(), version, deep=True)
        assert all(link.ok for link in links), [link for link in links if not link.ok]


def test_without_a_ledger_or_tags_there_is_nothing_to_rebuild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toyworld.stand_in("judged", tmp_path, monkeypatch)
    with pytest.raises(RegistryError, match=r"neither a ledger nor tags of tiny\. Fetch them: git fetch"):
        make_again()


def test_an_interrupted_registration_is_completed_after_a_rebuild(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_params(seed=3)
    set_verdicts()
    run_stages(rejudge=True)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_obtain_commit", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            stage.run(load_config())
    assert make_again().kept == [1, 2, 3, 5]
    assert stage.run(load_config()).version == 6


@pytest.mark.slow
def test_the_command_rebuilds_a_damaged_file_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toyworld.stand_in("serving", tmp_path, monkeypatch)
    damaged = b"no database any more " * 500
    Path("mlflow/mlflow.db").write_bytes(damaged)
    audited = command("audit", "1")
    assert audited.returncode == 1
    assert "strop registry rebuild" in audited.stderr
    assert "Traceback" not in audited.stderr
    done = command("registry", "rebuild", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["made"], set(facts["missing"])) == ([1, 2], {"2"})
    assert [each[: len(DRIFT)] for each in facts["missing"]["2"]] == [DRIFT]
    assert Path(facts["aside"]).read_bytes() == damaged
    audited = command("audit", "2")
    assert audited.returncode == 0, audited.stdout + audited.stderr


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *arguments], capture_output=True, text=True, check=False
    )
