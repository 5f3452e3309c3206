"""tasks/tracking: opens the registry in any state, reports errors quickly, and copies curves with best effort."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import RegisteredModel
from mlflow.store.entities import PagedList
from sqlalchemy.engine.default import DefaultDialect
from support import toyworld
from support.opened_at_once import open_in_four_processes

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import load_config
from tasks.errors import DiskError, RegistryError, VersioningError
from tasks.tracking import live_metrics, sqlite_paths
from tasks.tracking.artifact_paths import COLUMNS
from tasks.tracking.connection import mlflow_errors
from tasks.tracking.live_metrics import EVENTS_FILE, mirror_curves
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.runs import Point


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(live_metrics, "TIMEOUT_SECONDS", 120)  # a run does not wait for its curves; these tests do
    return toyworld.stand_in("judged", tmp_path, monkeypatch)


def some_model(registry: Registry) -> str:
    return str(registry.client.create_logged_model(registry.experiment_id, name="some").model_uri)


def test_four_processes_may_open_a_fresh_registry_at_once(world: Path) -> None:
    shutil.rmtree("mlflow")
    open_in_four_processes()
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


def test_a_password_in_the_address_is_not_printed() -> None:
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
    with pytest.raises(RegistryError, match="cannot be reached") as raised:
        open_registry(load_config())
    assert time.monotonic() - started < 5
    assert "secret" not in str(raised.value)


def test_a_server_that_is_no_registry_is_one_line_within_a_minute(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        started = time.monotonic()
        with pytest.raises(RegistryError, match="the registry refused") as raised:
            open_registry(load_config())
        assert time.monotonic() - started < 60
        assert "\n" not in str(raised.value)
    finally:
        server.shutdown()


def test_a_file_that_is_no_database_is_one_line_that_names_the_rebuild(world: Path) -> None:
    Path("mlflow/mlflow.db").write_bytes(b"this is no database, " * 100)
    with pytest.raises(RegistryError, match=r"mlflow\.db: .*damaged.*strop registry rebuild") as raised:
        open_registry(load_config())
    assert "move" not in str(raised.value)


def test_a_file_of_a_newer_mlflow_is_left_alone_in_one_line(world: Path) -> None:
    with contextlib.closing(sqlite3.connect("mlflow/mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = Path("mlflow/mlflow.db").read_bytes()
    with pytest.raises(RegistryError, match=r"written by a newer MLflow \(schema f{12}, here "):
        open_registry(load_config())
    assert Path("mlflow/mlflow.db").read_bytes() == before
    assert [path.name for path in Path("mlflow").iterdir() if path.is_file()] == ["mlflow.db"]


def test_corrupted_pages_are_one_line_that_names_the_rebuild(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    toyworld.stand_in("serving", tmp_path, monkeypatch)
    content = bytearray(Path("mlflow/mlflow.db").read_bytes())
    for start in range(4096 * 4, len(content), 4096):  # the schema stays whole, the tables do not
        content[start : start + 4096] = b"\xff" * len(content[start : start + 4096])
    Path("mlflow/mlflow.db").write_bytes(content)
    with pytest.raises(RegistryError, match=r"mlflow\.db: .*damaged.*strop registry rebuild") as raised:
        open_registry(load_config()).version(1)
    assert "\n" not in str(raised.value)
    assert "SELECT" not in str(raised.value)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_locked_file_is_waited_for_with_one_line(world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    registry = open_registry(load_config())
    connection = sqlite3.connect("mlflow/mlflow.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    threading.Timer(1.5, connection.execute, ["ROLLBACK"]).start()
    assert open_registry(load_config()).versions() == []
    connection.execute("BEGIN IMMEDIATE")
    threading.Timer(1.5, connection.execute, ["ROLLBACK"]).start()
    registry.create_run("x", {})
    connection.close()
    assert capfd.readouterr().err.count("registry: waiting for another process that has locked ") == 2


def test_a_file_that_stays_locked_is_one_line_in_the_end(
    world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sqlite_paths, "LOCK_WAIT_SECONDS", 0.5)
    registry = open_registry(load_config())
    with contextlib.closing(sqlite3.connect("mlflow/mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        for work in (lambda: open_registry(load_config()), lambda: registry.create_run("x", {})):
            with pytest.raises(RegistryError, match=r"mlflow\.db: another process keeps .* locked\. End that process"):
                work()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO runs VALUES (?)]", "no space left"),
        ("(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: INSERT", "cannot be read or written"),
        ("(sqlite3.OperationalError) database is locked [SQL: UPDATE runs", "another process keeps"),
        ("(sqlite3.DatabaseError) database disk image is malformed\n[SQL: SELECT 1]", "strop registry rebuild"),
        ("(sqlite3.IntegrityError) UNIQUE failed\n[SQL: INSERT INTO x]\n(Background on", r"refused \(.*UNIQUE failed\)"),
    ],
)  # fmt: skip
def test_what_the_database_refuses_is_one_line_without_sql(message: str, line: str) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises((RegistryError, DiskError), match=line) as raised, mlflow_errors("sqlite:///nowhere.db"):
        raise MlflowException(message)
    assert "SQL:" not in str(raised.value)
    assert "\n" not in str(raised.value)


def absolute_paths(path: Path = Path("mlflow/mlflow.db")) -> list[str]:
    """Every location in the file that is absolute."""
    columns = [("experiments", "artifact_location"), *COLUMNS]
    with contextlib.closing(sqlite3.connect(path)) as database:
        values = [value for table, column in columns for (value,) in database.execute(f"SELECT {column} FROM {table}")]
    return [value for value in values if value and (value.startswith("/") or "://" in value)]


def test_a_moved_project_still_finds_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toyworld.stand_in("serving", tmp_path, monkeypatch)  # a copy of a project that is elsewhere
    before = Path("mlflow/mlflow.db").read_bytes()
    registry = open_registry(load_config())
    (stored,) = registry.weight_files(registry.version(1).source, tmp_path)
    assert stored.is_relative_to(tmp_path / "project")
    assert absolute_paths() == []
    assert Path("mlflow/mlflow.db").read_bytes() == before, "nothing had to be corrected"


def test_relative_locations_are_read_from_anywhere_and_by_a_name_with_odd_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(toyworld.template("serving"), tmp_path / "50% of #1 是", symlinks=True)
    monkeypatch.chdir(root)
    registry = open_registry(load_config())
    monkeypatch.chdir(tmp_path)
    version = registry.version(1)
    (stored,) = registry.weight_files(version.source, tmp_path / "download")
    assert stored.is_relative_to(root)
    registry.log_files(version.run_id, stored)
    assert (root / "mlflow/artifacts").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {root.name}
    assert stored.name in {file.path for file in registry.client.list_artifacts(version.run_id)}


def with_absolute_paths(root: Path, old: Path) -> None:
    """As an earlier Strop, or MLflow by itself, wrote the locations of a project at `old`."""
    with contextlib.closing(sqlite3.connect(root / "mlflow/mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), *COLUMNS):
            database.execute(
                f"UPDATE {table} SET {column} = ? || {column} WHERE {column} LIKE 'mlflow/%' OR {column} LIKE 'mlruns/%'",
                (f"{old}/",),
            )


def test_absolute_locations_of_before_become_relative_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = toyworld.stand_in("serving", tmp_path, monkeypatch)
    with_absolute_paths(root, Path("/gone/project"))
    assert absolute_paths()
    open_registry(load_config())
    registry = open_registry(load_config())
    assert capfd.readouterr().err.count("are now relative to the project") == 1
    assert absolute_paths() == []
    assert registry.weight_files(registry.version(2).source, tmp_path)


def test_artifacts_that_another_project_stored_in_its_own_folder_stay_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(toyworld.template("serving"), tmp_path / "other", symlinks=True)
    root = toyworld.stand_in("serving", tmp_path, monkeypatch)
    shutil.rmtree(root / "mlflow/artifacts")
    with_absolute_paths(root, other)  # this file was named by the other project, too
    registry = open_registry(load_config())
    (stored,) = registry.weight_files(registry.version(1).source, tmp_path)
    assert stored.is_relative_to(other)


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_outside_the_project_that_two_share_keeps_its_paths(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool
) -> None:
    shared = shutil.copyfile("mlflow/mlflow.db", tmp_path / "shared.db")
    with contextlib.closing(sqlite3.connect(shared)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = '/other/project/mlflow/artifacts'")
    Path("linked.db").symlink_to(shared)
    before = shared.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///linked.db" if is_link else f"sqlite:///{shared}")
    registry = open_registry(load_config())
    assert registry.uri == f"sqlite:///{shared}"
    assert shared.read_bytes() == before


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
    version = registry.find_version("n", "3")
    assert version is not None
    assert version.version == 3
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


def test_a_training_that_ended_without_a_report_is_marked_killed(world: Path) -> None:
    paths.EVENTS.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Ended), mirror_curves(load_config()):
        EVENTS_FILE.write_text('{"step": 1, "loss": 2.0}\n')
        raise Ended
    registry = open_registry(load_config())
    (run,) = registry.client.search_runs([registry.experiment_id], "tags.`strop.state` = 'live'")
    assert run.info.status == "KILLED"


def test_trainings_that_come_before_have_curves_of_their_own(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_metrics, "POLL_SECONDS", 0.1)
    paths.EVENTS.mkdir(parents=True, exist_ok=True)
    registry = open_registry(load_config())
    with mirror_curves(load_config()), EVENTS_FILE.open("a") as file:
        file.write('{"step": 1, "loss": 9.0, "before": 1}\n{"step": 1, "loss": 3.0}\n')
    assert live_runs(registry) == [{"before-1/loss": 9.0, "train/loss": 3.0}]


def test_curves_are_mirrored_while_a_stage_trains(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_metrics, "POLL_SECONDS", 0.1)
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
    monkeypatch.setattr(live_metrics, "POLL_SECONDS", 0.05)
    with mirror_curves(load_config()):
        paths.EVENTS.mkdir(parents=True, exist_ok=True)
        EVENTS_FILE.write_text(json.dumps({"step": 0, "loss": 1.0}) + "\n")
        time.sleep(0.5)
    assert "live curves stop here" in capsys.readouterr().err


def test_a_training_that_fails_stays_a_failure(world: Path) -> None:
    with pytest.raises(ZeroDivisionError), mirror_curves(load_config()):
        raise ZeroDivisionError
