"""`strop gc` on a project: what it removes and what stays, after a kill at any step too.

Version 1 serves, 2 was let through, 3 was refused, and 5, the newest, has the weights of 2.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import toyworld
from support.mlflowserver import log_in, server
from support.project import params, write_params
from support.toyworld import git, set_params

from flows.cli.main import run as strop
from flows.runtime.lock import Busy, no_run_in, one_run_at_a_time
from tasks import paths
from tasks.audit.stage import audit
from tasks.config import load_config
from tasks.errors import DataError, RegistryError
from tasks.model_store.ledger import LedgerMoved, append_entry, read_ledger
from tasks.promote.stage import promote, reconcile
from tasks.register.known import versions_in_git
from tasks.register.rebuild import rebuild
from tasks.register.restore import restore
from tasks.retention import stage
from tasks.retention.plan import Removal
from tasks.runtime.files import write_json, write_text
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import WEIGHTS_TAG
from tasks.vcs.dvc_outputs import outputs_in_cache

pytestmark = pytest.mark.usefixtures("warm")

OLD = time.time() - 90 * 86400


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = shutil.copytree(toyworld.template("refused"), tmp_path / "project", symlinks=True)
    monkeypatch.chdir(root)
    set_params(seed=2, retention={"refused_candidates": 0})
    add_leftovers()
    return root


def add_leftovers() -> None:
    """Checkpoints of two trainings, and an old and a new entry of a cache."""
    for name, age in (("a" * 16, OLD), ("b" * 16, time.time())):
        add(paths.CHECKPOINTS / name / "checkpoint-5" / "model.safetensors", age)
    add(paths.VALIDATE_CACHE / "old" / "facts.json", OLD)
    add(paths.VALIDATE_CACHE / "new" / "facts.json", time.time())


def add(file: Path, age: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * 1000)
    for path in (file, file.parent, file.parent.parent):
        os.utime(path, (age, age))


def stored() -> set[str]:
    """All files of the project but git's, MLflow's tables and DVC's own caches of hashes."""
    skipped = {".git", "tmp", "locks", "dvc", "mlflow.db", "__pycache__"}
    return {str(path) for path in Path().rglob("*") if path.is_file() and not skipped & set(path.parts)}


def states(version: int) -> dict[str, str]:
    return {link.name: link.detail for link in audit(load_config(), version) if link.state != "ok"}


def used_bytes() -> int:
    files = {(s.st_dev, s.st_ino): s.st_size for name in stored() if (s := os.lstat(name))}
    return sum(files.values())


def test_a_refused_candidate_goes_and_everything_that_is_needed_stays(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, bytes_before, entries = stored(), used_bytes(), read_ledger("tiny")
    commit = git("rev-parse", "refs/strop/refused/tiny/v3")
    assert strop(["gc", "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert stored() == before
    assert read_ledger("tiny") == entries
    assert shown["retired"] == [3]
    assert shown["kept"] == {"1": "serves", "2": "passed the gate", "5": "passed the gate"}

    assert strop(["gc", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done == {**shown, "dry_run": False}
    assert [removal["kind"] for removal in done["removals"]] == [
        "logged models", "stage outputs", "stage outputs", "weights", "checkpoints", "caches",
    ]  # fmt: skip
    assert bytes_before - used_bytes() == done["bytes"] > 0
    assert (paths.CHECKPOINTS / ("b" * 16)).is_dir()
    assert not (paths.CHECKPOINTS / ("a" * 16)).exists()
    assert [path.name for path in paths.VALIDATE_CACHE.iterdir()] == ["new"]
    for version in (1, 2, 5):
        assert states(version) == {}
        assert all(
            file.path.exists() for files in outputs_in_cache(f"tiny@v{version}").values() for file in files or ()
        )
    ((name, note),) = states(3).items()
    assert name == "files"
    assert "retired by" in note
    assert "not one of the 0 newest refused candidates" in note
    assert git("rev-parse", "refs/strop/refused/tiny/v3") == commit
    assert strop(["gc"]) == 0
    assert "Nothing to remove" in capsys.readouterr().out
    assert strop(["gc", "--dry-run"]) == 0
    assert "Kept: v1 (serves)\nKept: v2, v5 (passed the gate)\nNothing" in capsys.readouterr().out
    check_that_the_registry_agrees()


def check_that_the_registry_agrees() -> None:
    """After the removal: the version is listed, cannot be promoted, and a rebuild reports one line about it."""
    config, registry = load_config(), open_registry(load_config())
    version = registry.version(3)
    assert registry.stored_bytes(version.source) == {}
    assert "retired by" in version.tags["strop.retired"]
    with pytest.raises(RegistryError, match="files of tiny v3 were removed by retention"):
        promote(config, 3, why="after all", expected_champion=1, force=True)
    result = rebuild(config)
    (line,) = result.missing[3]
    assert line.startswith("its model: retired by")
    assert result.made == []
    assert set(result.missing) == {3}
    assert reconcile(config) == 1
    registry.client.log_model_artifact(version.source.rsplit("/", 1)[1], str(paths.PARAMS))
    assert "the registry has 1 file of a model" in states(3)["files"]


class Killed(BaseException):
    """As kill -9: nothing catches it."""


def steps() -> list[tuple[Any, str]]:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.tracking import MlflowClient

    return [
        (stage, "append_entry"),
        (Registry, "set_version_tags"),
        (MlflowClient, "set_logged_model_tags"),
        (MlflowClient, "delete_logged_model_tag"),
        (LocalArtifactRepository, "delete_artifacts"),
        (Path, "unlink"),
        (Path, "rename"),
        (shutil, "rmtree"),
    ]


def test_after_a_kill_at_any_step_the_next_gc_completes_it(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config()
    for owner, name in steps():
        real = getattr(owner, name)

        def then_die(*arguments: Any, real: Any = real, **named: Any) -> Any:
            result = real(*arguments, **named)
            if "lock" not in str(arguments[0]):
                raise Killed
            return result

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, then_die)
            with pytest.raises(Killed):
                stage.run(config)
    plan = stage.run(config)
    assert plan.retired == ()
    assert plan.bytes > 0
    assert stage.make_plan(config).removals == ()
    assert [entry.version for entry in read_ledger("tiny") if entry.kind == "retired"] == [3]
    assert [list(states(version)) for version in (1, 3)] == [[], ["files"]]
    assert "retired by" in open_registry(config).version(3).tags["strop.retired"]
    assert not list(Path(".strop").rglob(".removing-*"))


def test_what_a_worktree_an_alias_or_a_branch_names_stays(world: Path) -> None:
    config = load_config()
    objects = {r.what for r in stage.make_plan(config).removals if r.kind == "stage outputs"}
    assert objects == {"data/model of v3", "data/predictions of v3"}
    open_registry(config).set_alias("staging", 3)
    plan = stage.make_plan(config)
    assert (plan.retired, plan.kept[3]) == ((), "has the alias staging")
    open_registry(config).remove_alias("staging")
    git("worktree", "add", "-q", "--detach", "../other")
    settings = json.loads(paths.PARAMS.read_text())
    Path("../other/params.yaml").write_text(json.dumps({**settings, "finetune": {"distill": {"teacher": "v3"}}}))
    assert stage.make_plan(config).kept[3] == f"is named in {world.parent / 'other/params.yaml'}"
    Path("../other/params.yaml").write_text(json.dumps(settings))
    weights = next(entry.weights_digest for entry in read_ledger("tiny") if entry.version == 3)
    start = {"forms": ["answers"], "champion": None, "versions": {"teacher": weights}}
    write_json(Path("../other/data/start.json"), start)
    assert stage.make_plan(config).kept[3] == f"is named in {world.parent / 'other/data/start.json'}"
    git("worktree", "remove", "--force", "../other")
    git("branch", "experiment", "refs/strop/refused/tiny/v3")
    plan = stage.make_plan(config)
    assert plan.retired == (3,)
    assert not [r for r in plan.removals if r.kind == "stage outputs"], "a branch has its dvc.lock"


def test_a_rejected_version_is_retired_and_the_model_that_it_shares_with_another_one_stays(world: Path) -> None:
    config, entries = load_config(), read_ledger("tiny")
    judged = next(entry for entry in entries if entry.version == 2)
    append_entry("tiny", replace(judged, kind="rejected", why="语气不对"), expected_length=len(entries), remote="")
    assert stage.make_plan(config).kept[2] == f"is named in {world / paths.VERDICT}"
    paths.VERDICT.unlink()
    plan = stage.run(config)
    assert plan.retired == (2, 3)
    assert not [removal.what for removal in plan.removals if "v2" in removal.what], "5 has its files"
    assert "its model is also that of v5" in states(2)["files"]
    assert states(5) == {}
    version = versions_in_git("tiny")[3]
    restored = restore(version, Path("restored"))
    assert restored.model is None
    assert restored.missing[-1] == f"its model and curves: {version.retired}"


def test_a_promotion_while_the_plan_is_made_wins_and_no_file_is_removed(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, entries, before = load_config(), read_ledger("tiny"), stored()
    judged = next(entry for entry in entries if entry.version == 3)
    real = stage.in_order

    def promote_first(*arguments: Any) -> Any:
        git("tag", "tiny@v3", "refs/strop/refused/tiny/v3")
        append_entry("tiny", replace(judged, kind="promoted"), expected_length=len(entries), remote="")
        return real(*arguments)

    monkeypatch.setattr(stage, "in_order", promote_first)
    with pytest.raises(LedgerMoved):
        stage.run(config)
    assert before <= stored()
    assert [entry.kind for entry in read_ledger("tiny")][-1] == "promoted"


def test_outputs_of_a_training_that_became_no_version_go_when_they_are_old(world: Path) -> None:
    cache = Path(".dvc/cache").resolve()
    shared = next(iter(outputs_in_cache("tiny@v1")["data/model"] or ()))
    unused, listing = "a" * 32, f"{'b' * 32}.dir"
    files = [{"md5": unused, "relpath": "extra.json"}, {"md5": shared.md5, "relpath": shared.relpath}]
    for md5, content in ((unused, "{}"), (listing, json.dumps(files))):
        write_text(cache / "files/md5" / md5[:2] / md5[2:], content)
    run = cache / "runs/cc" / ("c" * 64) / ("d" * 64)
    write_text(run, f"cmd: x\nouts:\n- path: data/model\n  hash: md5\n  md5: {listing}\n")

    def removals() -> list[Removal]:
        return [r for r in stage.make_plan(load_config()).removals if r.what == "data/model of no version"]

    assert removals() == []
    os.utime(run, (OLD, OLD))
    (removal,) = removals()
    assert removal.paths == (cache / "files/md5" / unused[:2] / unused[2:],)
    assert "cache_days" in removal.reason


def test_gc_does_not_run_beside_a_run_or_an_unfinished_erasure(world: Path) -> None:
    paths.ERASING.write_text("{}")
    with pytest.raises(DataError, match=r"erasing\.json: an erasure of rows was interrupted"):
        stage.make_plan(load_config())
    with one_run_at_a_time(), no_run_in([world]):
        pass  # the lock is reentrant in one process
    with held_by_another(world), pytest.raises(Busy, match="a run is in progress"), no_run_in([world]):
        pass


@contextlib.contextmanager
def held_by_another(root: Path) -> Any:
    from filelock import FileLock

    with FileLock(root / paths.LOCKS / "run.lock"):
        yield


def test_the_files_of_a_logged_model_are_gone_from_a_servers_disk_and_its_version_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log_in(monkeypatch)
    uri, disk = server(has_login=True).url, server(has_login=True).folder / "artifacts"
    write_params(tmp_path, params("base", [], register={"model_name": "removed", "tracking_uri": uri}))
    Path("dvc.yaml").touch()
    for name in ("weights.safetensors", "model/config.json"):
        add(Path("files") / name, time.time())
    registry = open_registry(load_config())
    run_id = registry.create_run("candidate", {})
    model = registry.client.create_logged_model(registry.experiment_id, "removed", run_id, tags={WEIGHTS_TAG: "w"})
    registry.client.log_model_artifacts(model.model_id, "files")
    registry.client.finalize_logged_model(model.model_id, "READY")
    number = registry.create_version(model.model_uri, run_id, {})
    assert registry.stored_bytes(model.model_uri) == {"model/config.json": 1000, "weights.safetensors": 1000}
    assert registry.find_models("w") == [model.model_uri]
    assert not registry.remove_files(model.model_uri, lambda: not registry.is_complete(model.model_uri, "w"))
    assert registry.is_complete(model.model_uri, "w"), "a version was registered with it meanwhile"
    for _ in range(2):
        assert registry.remove_files(model.model_uri, lambda: False)
        assert not registry.is_complete(model.model_uri, "w")
        assert registry.stored_bytes(model.model_uri) == {}
    assert not [path for path in disk.rglob("*") if path.is_file() and model.model_id in str(path)]
    assert registry.find_models("w") == []
    assert registry.version(number).source == model.model_uri
