"""The door to MLflow: ready from any start, quick to say that it is not, and best effort where it mirrors."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import toyworld
from mlflow.entities.model_registry import RegisteredModel
from mlflow.store.entities import PagedList
from sqlalchemy.engine.default import DefaultDialect

from tasks import mirror, paths
from tasks.config import load_config
from tasks.errors import RegistryError, VersioningError
from tasks.mirror import EVENTS_FILE, mirror_curves
from tasks.tracking.preparing import ARTIFACTS
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.registry_file import ARTIFACT_PATHS, follow_move
from tasks.tracking.runs import Point
from tasks.weights import weights_digest


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mirror, "PATIENCE_SECONDS", 120)  # a run does not wait for its curves; these tests do
    return toyworld.stand_in("judged", tmp_path, monkeypatch)


def some_model(registry: Registry) -> str:
    return str(registry.client.create_logged_model(registry.experiment_id, name="some").model_uri)


def _open_and_look(ready: Any, problems: Any) -> None:
    ready.wait()
    try:
        open_registry(load_config()).versions()
    except RegistryError as error:
        problems.put(str(error))


def test_four_processes_may_open_a_fresh_registry_at_once(world: Path) -> None:
    shutil.rmtree("mlflow")
    forked = multiprocessing.get_context("fork")  # a fresh start of Python and MLflow takes seconds for each
    ready, problems = forked.Barrier(4), forked.Queue()
    processes = [forked.Process(target=_open_and_look, args=(ready, problems)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert problems.empty(), problems.get()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    registry = open_registry(load_config())
    assert registry.create_version(some_model(registry), registry.create_run("x", {}), {}) == 1


class Ended(BaseException):
    """As the command's own for SIGTERM, no mistake of anything."""


def test_killed_while_the_registry_is_made_it_is_made_by_the_next(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = DefaultDialect.do_execute

    def dying(self: Any, cursor: Any, statement: str, *more: Any) -> None:
        execute(self, cursor, statement, *more)
        if statement.startswith("ALTER TABLE metrics ADD COLUMN step"):
            raise Ended

    shutil.rmtree("mlflow")
    with monkeypatch.context() as patch:
        patch.setattr(DefaultDialect, "do_execute", dying)
        with pytest.raises(Ended):
            open_registry(load_config())
    assert open_registry(load_config()).versions() == []
    assert [path.name for path in Path("mlflow").iterdir() if path.is_file()] == ["mlflow.db"]


def test_a_password_in_the_address_is_not_told() -> None:
    class Client:
        def search_model_versions(self, *_: str, **__: None) -> Any:
            return PagedList([], None)

        def get_registered_model(self, _: str) -> Any:
            return RegisteredModel("tiny")

    registry = Registry("postgresql://li:secret@host/registry", "tiny", Client(), "0")  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="li:…@host/registry: has no version 7 of tiny; it has none"):
        registry.version(7)


def test_an_unreachable_server_is_one_line_within_seconds(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(RegistryError, match="cannot be reached") as told:
        open_registry(load_config())
    assert time.monotonic() - started < 5
    assert "secret" not in str(told.value)


def test_a_server_that_is_no_registry_is_one_line_within_a_minute(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        started = time.monotonic()
        with pytest.raises(RegistryError, match="the registry refused") as told:
            open_registry(load_config())
        assert time.monotonic() - started < 60
        assert "\n" not in str(told.value)
    finally:
        server.shutdown()


def test_a_damaged_file_is_told(world: Path) -> None:
    Path("mlflow/mlflow.db").write_bytes(b"this is no database, " * 100)
    with pytest.raises(RegistryError, match=r"mlflow\.db: the registry cannot be opened"):
        open_registry(load_config())


def test_a_moved_project_still_finds_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toyworld.stand_in("serving", tmp_path, monkeypatch)  # a copy: every path in it is that of the original
    registry = open_registry(load_config())
    (stored,) = registry.weight_files(registry.version(1).source, tmp_path)
    assert stored.is_relative_to(tmp_path / "project")
    with sqlite3.connect("mlflow/mlflow.db") as database:
        places = [
            p
            for (p,) in database.execute(
                "SELECT artifact_uri FROM runs UNION SELECT storage_location FROM model_versions"
            )
        ]
    assert all(place.startswith(str(tmp_path / "project")) for place in places if place)


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_outside_the_project_that_two_share_keeps_its_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool
) -> None:
    shared = tmp_path / "shared.db"
    with contextlib.closing(sqlite3.connect(shared)) as database, database:
        for table, column in ARTIFACT_PATHS:
            database.execute(f"CREATE TABLE {table} ({column} TEXT)")
        database.execute("INSERT INTO experiments VALUES ('/other/project/mlflow/artifacts')")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    Path("linked.db").symlink_to(shared)
    assert not follow_move(Path("linked.db") if is_link else shared, ARTIFACTS)
    shutil.copyfile(shared, "own.db")
    assert follow_move(Path("own.db"), ARTIFACTS)


def test_a_point_is_not_written_twice(world: Path) -> None:
    registry = open_registry(load_config())
    run_id = registry.create_run("x", {})
    registry.log_points(run_id, [Point("loss", 3.0, 0), Point("loss", 2.0, 1)])
    registry.log_points(run_id, [Point("loss", 3.0, 0), Point("loss", 2.0, 1), Point("loss", 1.0, 2)])
    history = registry.client.get_metric_history(run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_aliases_and_versions_are_numbers(world: Path) -> None:
    registry = open_registry(load_config())
    assert registry.alias("champion") is None
    assert registry.versions() == []
    run_id, source = registry.create_run("x", {}), some_model(registry)
    for number in range(1, 12):
        assert registry.create_version(source, run_id, {"n": str(number)}) == number
    registry.set_alias("champion", 11)
    assert registry.alias("champion") == 11
    assert [v.version for v in registry.versions()] == list(range(1, 12))
    assert registry.version(11).aliases == ["champion"]
    found = registry.find_version("n", "3")
    assert found is not None
    assert found.version == 3
    registry.remove_alias("champion")
    registry.remove_alias("champion")
    assert registry.alias("champion") is None


def live_runs(registry: Registry) -> list[dict[str, float]]:
    return [run.data.metrics for run in registry.client.search_runs([registry.experiment_id])]


def test_a_training_that_a_signal_ended_is_marked_killed_not_failed(world: Path) -> None:
    paths.EVENTS.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(VersioningError), mirror_curves(load_config()):
        EVENTS_FILE.write_text('{"step": 1, "loss": 2.0}\n{"step": 1, "interrupted": true}\n')
        raise VersioningError("stage `finetune` failed")
    registry = open_registry(load_config())
    (run,) = registry.client.search_runs([registry.experiment_id], "tags.`strop.state` = 'live'")
    assert run.info.status == "KILLED"


def test_a_training_that_was_ended_before_it_could_say_so_is_marked_killed(world: Path) -> None:
    paths.EVENTS.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Ended), mirror_curves(load_config()):
        EVENTS_FILE.write_text('{"step": 1, "loss": 2.0}\n')
        raise Ended
    registry = open_registry(load_config())
    (run,) = registry.client.search_runs([registry.experiment_id], "tags.`strop.state` = 'live'")
    assert run.info.status == "KILLED"


def test_trainings_that_come_before_have_curves_of_their_own(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "LOOK_EVERY_SECONDS", 0.1)
    paths.EVENTS.mkdir(parents=True, exist_ok=True)
    registry = open_registry(load_config())
    with mirror_curves(load_config()), EVENTS_FILE.open("a") as file:
        file.write('{"step": 1, "loss": 9.0, "before": 1}\n{"step": 1, "loss": 3.0}\n')
    assert live_runs(registry) == [{"before-1/loss": 9.0, "train/loss": 3.0}]


def test_curves_are_mirrored_while_a_stage_trains(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "LOOK_EVERY_SECONDS", 0.1)
    paths.EVENTS.mkdir(parents=True, exist_ok=True)
    EVENTS_FILE.write_text('{"step": 99, "loss": 9.0}\n')  # of an earlier training
    registry = open_registry(load_config())
    with mirror_curves(load_config()), EVENTS_FILE.open("a") as file:
        file.write('{"step": 0, "loss": 3.0, "valid_loss": 3.5}\n{"step": 1, "lo')
        file.flush()
        deadline = time.monotonic() + 20
        while not live_runs(registry) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert live_runs(registry), "nothing came while it trained"
        file.write('ss": 2.0, "note": "half a line"}\nno json\n')
    assert live_runs(registry) == [{"train/loss": 2.0, "train/valid_loss": 3.5}]
    run_id = registry.find_run("strop.weights", weights_digest(paths.MODEL))
    assert run_id is not None

    registered = toyworld.register()
    assert registry.version(registered.version).run_id == run_id, "the live run was not taken"
    assert len(live_runs(registry)) == 1
    history = registry.client.get_metric_history(run_id, "train/loss")
    assert sorted(m.step for m in history) == [0, 1, 2, 3], "register completes what the mirror missed"


def test_no_training_makes_no_run(world: Path) -> None:
    with mirror_curves(load_config()):
        pass
    assert live_runs(open_registry(load_config())) == []


def test_an_unreachable_registry_never_fails_a_training(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(mirror, "LOOK_EVERY_SECONDS", 0.05)
    with mirror_curves(load_config()):
        paths.EVENTS.mkdir(parents=True, exist_ok=True)
        EVENTS_FILE.write_text(json.dumps({"step": 0, "loss": 1.0}) + "\n")
        time.sleep(0.5)
    assert "live curves stop here" in capsys.readouterr().out


def test_a_training_that_fails_stays_a_failure(world: Path) -> None:
    with pytest.raises(ZeroDivisionError), mirror_curves(load_config()):
        raise ZeroDivisionError
