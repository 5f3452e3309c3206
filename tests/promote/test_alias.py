"""The alias `champion` follows the ledger: whoever moves it, whatever is killed, and however many write at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import toyworld
from support.project import REPOSITORY
from support.warm import WARM_COMMAND

from flows.return_to_champion import follow_ledger
from tasks.config import load_config
from tasks.errors import RegistryError
from tasks.model_store.ledger import LedgerMoved, champion_of, is_mirrored, read_ledger
from tasks.model_store.serving import champion_at, read_serving
from tasks.promote import stage
from tasks.promote.stage import promote, reconcile, rollback
from tasks.tracking import glance as glancing
from tasks.tracking.registry import Registry, open_registry
from tasks.vcs import git

pytestmark = pytest.mark.usefixtures("warm")

BACK = "v1 is the champion in the ledger: the next `strop run` sets it back"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 passed the gate against version 1."""
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def champion() -> int | None:
    entry = champion_of(read_ledger("tiny"))
    return entry.version if entry else None


def alias() -> int | None:
    return open_registry(load_config()).alias("champion")


def move(how: str) -> None:
    registry = open_registry(load_config())
    client: Any = registry.client
    if how == "moved":
        registry.set_alias("champion", 2)
    elif how == "deleted":
        registry.remove_alias("champion")
    elif how == "version deleted":
        client.delete_model_version("tiny", "1")
    elif how == "dangling":
        import sqlite3

        registry.set_alias("champion", 2)
        with sqlite3.connect("mlflow/mlflow.db") as database:
            database.execute("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 2")
    else:
        client.delete_registered_model("tiny")


EXPECTED = {
    "moved": "The registry's alias `champion` points at v2, but " + BACK,
    "deleted": "The registry's alias `champion` points at no version, but " + BACK,
    "dangling": "points at a version that was deleted, but " + BACK,
    "version deleted": "The registry no longer has version 1, the champion in the ledger: it was deleted there",
    "model deleted": "The registry no longer has version 1, the champion in the ledger: it was deleted there",
}
WAS = {"moved": "pointed at v2", "deleted": "was missing", "dangling": "pointed at a version that was deleted"}
"""How `strop run` reports those that it sets back."""


@pytest.mark.parametrize("how", sorted(EXPECTED))
def test_case_22_status_history_and_run_report_an_alias_that_does_not_match(
    world: Path, strop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    import json

    from flows import run_once

    monkeypatch.setattr(run_once, "is_nothing_new", lambda _: True)
    assert read_serving(load_config()).problem is None
    move(how)
    code, out, err = strop("status")
    assert code == 0
    assert EXPECTED[how] in " ".join(out.split())
    assert "Version 1 serves" in out
    expected = json.loads(strop("status", "--json")[1])
    assert (expected["champion"], expected["alias_follows"]) == (1, False)
    assert EXPECTED[how] in expected["alias_problem"]
    for command in (["history"], ["history", "--json"]):
        code, out, err = strop(*command)
        assert code == 0
        assert EXPECTED[how] in " ".join(err.split())

    code, out, err = strop("run")
    assert code == 0
    if "version" in how or how == "model deleted":
        assert "no longer has version 1 of tiny, the champion in the ledger: it was deleted there" in err
        assert "strop registry rebuild" in err
        assert "reset" not in out + err
    else:
        assert f"registry: the alias `champion` {WAS[how]}; it is reset to v1" in err
        assert alias() == 1
        assert read_serving(load_config()).problem is None


def test_the_command_run_sets_the_alias_back_though_nothing_is_new(
    world: Path, strop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import run_once

    monkeypatch.setattr(run_once, "is_nothing_new", lambda _: True)
    move("moved")
    code, _, err = strop("run")
    assert code == 0
    assert "registry: the alias `champion` pointed at v2; it is reset to v1" in err
    assert alias() == 1
    assert "registry:" not in "".join(strop("run")[1:])


def test_a_promotion_while_the_ledger_is_read_breaks_nothing(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = git.refs_below

    def meanwhile(*patterns: str) -> dict[str, str]:
        refs = real(*patterns)
        monkeypatch.setattr(git, "refs_below", real)
        promote(load_config(), 2, why="meanwhile", expected_champion=1)
        return refs

    monkeypatch.setattr(git, "refs_below", meanwhile)
    before = read_serving(load_config())
    assert before.champion is not None
    assert before.champion.version == 1
    assert champion() == 2


def test_status_imports_no_mlflow(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys\nfrom tasks.config import load_config\nfrom tasks.model_store.serving import read_serving\n"
    code += "assert read_serving(load_config()).alias_matches\nprint([m for m in ('mlflow', 'sqlalchemy') if m in sys.modules])"
    expected = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert expected.stdout.strip() == "[]"


def test_a_server_that_does_not_answer_is_reported_within_seconds(
    world: Path, strop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(glancing, "TIMEOUT_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        serving = read_serving(load_config())
        assert time.monotonic() - began < 4
        assert serving.alias_matches is None
        assert serving.champion is not None
        assert serving.champion.version == 1
        code, out, _ = strop("status")
        assert code == 0
        assert "Version 1 serves" in out
        assert "Cannot check the registry" in out
        assert "secret" not in out


Answer = tuple[int, dict[str, Any]]

ONE = (200, {"model_version": {"name": "tiny", "version": "1", "tags": []}})
TWO = (200, {"model_version": {"name": "tiny", "version": "2", "tags": []}})
NO_ALIAS = (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias champion not found."})
NO_MODEL = (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=tiny not found"})
NO_VERSION = (
    404,
    {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Model Version (name=tiny, version=1) not found"},
)

ON_SERVER: dict[str, tuple[list[Answer], str | None]] = {
    "as the ledger": ([ONE], None),
    "moved": ([TWO, ONE], "points at v2, but " + BACK),
    "alias deleted": (
        [NO_ALIAS, ONE],
        "points at no version, but " + BACK,
    ),
    "alias of another version deleted": ([NO_VERSION, ONE], "points at a version that was deleted"),
    "version deleted, with its alias": ([NO_ALIAS, NO_VERSION], "The registry no longer has version 1"),
    "version deleted, alias moved": ([TWO, NO_VERSION], "The registry no longer has version 1"),
    "model deleted": ([NO_MODEL, NO_VERSION], "The registry no longer has version 1"),
    "the second answer is none": ([NO_ALIAS, (503, {})], "points at no version"),
    "refused": ([(401, {})], "refused (HTTP 401)"),
}
"""What the server answers to the requests for the alias and for version 1, and what is reported of it."""


def test_case_22_the_version_is_requested_only_where_the_alias_does_not_match(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json
    from http.server import BaseHTTPRequestHandler, HTTPServer

    requests: list[tuple[str, str | None]] = []
    answers: list[Answer] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Authorization")))
            status, content = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:p%40ss@127.0.0.1:{server.server_port}")
    for what, (given, expected) in ON_SERVER.items():
        answers[:] = given
        result = read_serving(load_config()).problem
        assert result == expected if expected is None else expected in str(result), what
        assert not answers, what
    server.shutdown()
    server.server_close()
    assert {path for path, _ in requests} == {
        "/api/2.0/mlflow/registered-models/alias?name=tiny&alias=champion",
        "/api/2.0/mlflow/model-versions/get?name=tiny&version=1",
    }
    assert {authorization for _, authorization in requests} == {"Basic YWRhOnBAc3M="}


class Killed(BaseException):
    """As kill -9: nothing catches it."""


@pytest.mark.parametrize("where", ["set_alias", "remove_alias", "set_version_tags", "note_mirrored"])
def test_after_a_kill_at_any_step_the_next_call_does_the_rest(
    world: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    owner = stage if where == "note_mirrored" else Registry
    real = getattr(owner, where)

    def die(*arguments: Any) -> None:
        if (
            where == "set_version_tags" and champion() == 1
        ):  # the look whether this login may write, before the ledger moves
            real(*arguments)
            return
        if where != "set_alias":  # before it, or after it
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, die)
        with pytest.raises(Killed):
            promote(load_config(), 2, why="passed", expected_champion=1)
    follow_ledger(load_config())
    assert (champion(), alias()) == (2, 2)
    promote(load_config(), 2, why="passed", expected_champion=1)
    assert is_mirrored("tiny", 2)
    assert open_registry(load_config()).alias("challenger") is None
    assert [entry.kind for entry in read_ledger("tiny")].count("promoted") == 2


def test_a_promotion_while_the_alias_is_set_is_not_undone(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger moves after it was read, and the promoter's own alias comes first: the older one must not stay."""
    real = Registry.set_alias

    def meanwhile(self: Registry, name: str, number: int) -> None:
        monkeypatch.setattr(Registry, "set_alias", real)
        with monkeypatch.context() as patch:
            patch.setattr(stage, "reconcile", lambda _: None)
            promote(load_config(), 2, why="the other", expected_champion=1)
        real(self, "champion", 2)
        real(self, name, number)

    open_registry(load_config()).remove_alias("champion")
    monkeypatch.setattr(Registry, "set_alias", meanwhile)
    assert reconcile(load_config()) == 2
    assert (champion(), alias()) == (2, 2)


def test_an_alias_that_another_process_keeps_moving_is_one_error_line(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "alias", lambda self, name: 2)
    monkeypatch.setattr(stage, "ATTEMPTS", 3)
    with pytest.raises(RegistryError, match="another process keeps moving the alias"):
        reconcile(load_config())


def test_a_rollback_names_the_champion_that_it_replaces(world: Path) -> None:
    promote(load_config(), 2, why="passed", expected_champion=1)
    with pytest.raises(LedgerMoved, match="v2 serves, not v1: another process was first"):
        rollback(load_config(), why="late", expected_champion=1)
    assert champion() == 2


def three_reigns() -> None:
    """1, 2 and 1 again served: two steps to go back."""
    promote(load_config(), 2, why="passed", expected_champion=1)
    promote(load_config(), 1, why="again", expected_champion=2, force=True)
    assert champion() == 1


def test_of_eight_concurrent_rollbacks_one_succeeds(world: Path) -> None:
    three_reigns()
    outcomes: list[Any] = []
    start = threading.Barrier(8)

    def race() -> None:
        start.wait()
        try:
            outcomes.append(rollback(load_config(), why="complaints", expected_champion=1).version)
        except LedgerMoved as error:
            outcomes.append(error)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [2]
    assert sum(isinstance(outcome, LedgerMoved) for outcome in outcomes) == 7, outcomes
    assert (champion(), alias()) == (2, 2)


def test_of_concurrent_rollback_commands_one_succeeds_and_the_others_report_it(world: Path) -> None:
    three_reigns()
    time.sleep(1.1)  # times in the ledger are of whole seconds
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), WARM_COMMAND: "yes"}
    command = [sys.executable, "-m", "flows.cli.main", "rollback", "--why", "complaints"]
    pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, **pipes, env=environment, text=True) for _ in range(3)]
    expected = [process.communicate() for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1], expected
    assert (champion(), alias()) == (2, 2)
    for process, (_, err) in zip(processes, expected, strict=True):
        lines = [line for line in err.splitlines() if not line.startswith("registry: waiting for another process")]
        assert process.returncode == 0 or len(lines) == 1, err
    assert [entry.kind for entry in read_ledger("tiny")].count("rolled_back") == 1


def test_a_promotion_after_a_command_began_is_not_its_expected_champion(world: Path) -> None:
    config = load_config()
    before = time.time()
    time.sleep(1.1)
    promote(config, 2, why="passed", expected_champion=1)
    assert champion_at(config, before) == 1
    assert champion_at(config, time.time()) == 2
