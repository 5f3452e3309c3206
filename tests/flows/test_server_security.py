"""Only its owner can access our Prefect server: a secret, no page of another origin, no file for another user."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.project import REPOSITORY
from support.toyflow import without_prefect

from flows.runtime.schedule_address import publish_address, running_schedule
from tasks.errors import StropError
from tasks.runtime.private_files import make_private_folder, read_private, write_private

NOBODY = 65534
SHELL = [{"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/owned"}}]

SERVE = """
import json, sys
from flows.runtime.schedule_address import publish_address
from flows.runtime.prefect_server import Server, _listen, _private_log
server = Server(_listen(0), _private_log(), schedules=True)
server.start()
server.wait_until_ready()
publish_address(server.url, server.secret)
print(json.dumps([server.url, server.secret, server.process.pid]), flush=True)
sys.stdin.read()
server.stop()
"""
"""The server of a schedule, without the schedule, until its standard input ends."""


class Served:
    def __init__(self, root: Path, url: str, secret: str, pid: int) -> None:
        self.root, self.url, self.secret, self.pid = root, url, secret, pid
        self.port = int(url.split(":")[2].split("/")[0])

    def ask(
        self, method: str, path: str, body: Any = None, secret: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and content of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if secret is not None:
            sent["authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
        connection.request(method, path, json.dumps(body) if body is not None else None, sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kept = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, kept, json.loads(content) if kept.get("content-type") == "application/json" else content


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    # not below pytest's folder, which is closed to other users by itself
    root = Path(tempfile.mkdtemp(prefix="strop-served-"))
    root.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=root,
        env=without_prefect(PREFECT_HOME=str(root / ".strop/prefect"), PYTHONPATH=str(REPOSITORY)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield Served(root, *json.loads(process.stdout.readline()))
    process.communicate("", timeout=30)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def deployment(served: Served) -> str:
    """The id of a deployment, as a schedule makes one."""
    status, _, flow = served.ask("POST", "/api/flows/", {"name": "retrain"}, served.secret)
    assert status in (200, 201)
    content = {"name": "schedule", "flow_id": flow["id"], "entrypoint": "flows.retrain.retrain"}
    status, _, made = served.ask("POST", "/api/deployments/", content, served.secret)
    assert status in (200, 201)
    return str(made["id"])


def test_every_route_but_health_refuses_a_request_without_the_secret_or_with_another(served: Served) -> None:
    status, _, schema = served.ask("GET", "/api/openapi.json", secret=served.secret)
    assert status == 200
    routes = [(method.upper(), path) for path, methods in schema["paths"].items() for method in methods]
    assert len(routes) > 100
    for secret in (None, "strop:guessed", "", "strop:" + "é"):
        tried = routes if secret is None else routes[:20]
        answers = {(m, p): served.ask(m, f"/api{p}", {}, secret)[0] for m, p in tried}
        open_ones = {route for route, status in answers.items() if status < 400}
        assert open_ones <= {("GET", "/health"), ("GET", "/ready")}
    assert served.ask("POST", "/api/flow_runs/filter", {})[0] == 401
    assert served.ask("POST", "/api/flow_runs/filter", {}, "strop:guessed")[0] == 401
    assert served.ask("POST", "/api/flow_runs/filter", {}, served.secret)[0] == 200


def test_a_deployment_cannot_be_changed_without_the_secret(served: Served, deployment: str) -> None:
    path = f"/api/deployments/{deployment}"
    assert served.ask("PATCH", path, {"pull_steps": SHELL})[0] == 401
    assert served.ask("GET", path, secret=served.secret)[2]["pull_steps"] == []


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9", "http://localhost", "http://evil.127.0.0.1"]
)
def test_a_page_of_another_origin_is_refused_even_with_the_secret(served: Served, deployment: str, origin: str) -> None:
    path = f"/api/deployments/{deployment}"
    for method, secret in (("PATCH", served.secret), ("GET", served.secret), ("OPTIONS", None)):
        extra = {"Access_Control_Request_Method": "PATCH"} if method == "OPTIONS" else {}
        status, headers, _ = served.ask(method, path, {"pull_steps": SHELL}, secret, Origin=origin, **extra)
        assert status == 403, method
        assert not [name for name in headers if name.startswith("access-control-")]
    assert served.ask("GET", "/api/health", Origin=origin)[0] == 403
    assert served.ask("GET", path, secret=served.secret)[2]["pull_steps"] == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4200", "127.0.0.1.evil.example", "x@localhost", ""])
def test_a_name_that_only_resolves_to_this_machine_is_refused(served: Served, host: str) -> None:
    assert served.ask("POST", "/api/flow_runs/filter", {}, served.secret, Host=host)[0] in (400, 421)
    assert served.ask("GET", "/", None, None, Host=host)[0] in (400, 421)


def test_the_servers_own_page_works_and_cannot_be_framed(served: Served) -> None:
    own = f"http://127.0.0.1:{served.port}"
    assert served.ask("POST", "/api/flow_runs/filter", {}, served.secret, Origin=own)[0] == 200
    assert served.ask("POST", "/api/flow_runs/filter", {}, None, Origin=own)[0] == 401
    forwarded = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}  # ssh -L 9999:127.0.0.1:4200
    assert served.ask("POST", "/api/flow_runs/filter", {}, served.secret, **forwarded)[0] == 200
    status, headers, _ = served.ask("GET", "/ui-settings")
    assert (status, headers["x-frame-options"]) == (200, "DENY")
    assert served.ask("GET", "/ui-settings")[2]["auth"] == "BASIC"


def test_no_websocket_opens_without_the_secret(served: Served) -> None:
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    def first_answer(path: str, token: str | None, **options: Any) -> Any:
        """What the server says to a login, and None where it closes the connection."""
        address = f"ws://127.0.0.1:{served.port}/api/{path}"
        try:
            with connect(address, proxy=None, **options) as socket:
                socket.send(json.dumps({"type": "auth", "token": token}))
                return json.loads(socket.recv(timeout=20))["type"]
        except (ConnectionClosed, InvalidStatus):
            return None

    prefect: dict[str, Any] = {"subprotocols": ["prefect"]}
    sockets = ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled"]
    for path in sockets:
        assert first_answer(path, served.secret, **prefect) == "auth_success", path
    for path in [*sockets, "work_pools/strop/workers/connect"]:
        assert first_answer(path, None, **prefect) is None, path
        assert first_answer(path, "strop:guessed", **prefect) is None, path
        assert first_answer(path, served.secret) is None, path
        assert first_answer(path, served.secret, **prefect, origin="https://evil.example") is None, path


ATTACK = """
import http.client, json, os, sys, encodings.idna
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
root, port, deployment, pid = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
assert ".strop" in os.listdir(root)  # the project itself is open
result = {{}}
for name in (".strop/prefect/secret", ".strop/prefect/schedule.json", ".strop/prefect/server.log",
             ".strop/prefect/prefect.db", f"/proc/{{pid}}/environ"):
    try:
        result[name] = open(os.path.join(root, name), "rb").read().decode(errors="replace")
    except PermissionError:
        result[name] = None
result["arguments"] = open(f"/proc/{{pid}}/cmdline").read()
connection = http.client.HTTPConnection("127.0.0.1", port)
kind = {{"content-type": "application/json"}}
connection.request("PATCH", f"/api/deployments/{{deployment}}", json.dumps({{"pull_steps": []}}), kind)
result["status"] = connection.getresponse().status
print(json.dumps(result))
"""


def test_another_user_of_this_machine_gets_neither_the_secret_nor_the_server(served: Served, deployment: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    code = ATTACK.format(nobody=NOBODY)
    arguments = [sys.executable, "-c", code, str(served.root), str(served.port), deployment, str(served.pid)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.pop("status") == 401
    assert "flows.runtime.server_process" in result["arguments"]
    assert served.secret not in result.pop("arguments")
    assert set(result.values()) == {None}


def test_everything_in_prefects_folder_is_for_this_user_alone_and_no_log_has_the_secret(served: Served) -> None:
    folder = served.root / ".strop/prefect"
    modes = {file: stat.S_IMODE(file.stat().st_mode) for file in [folder, *folder.glob("*")] if file.name != "ui"}
    assert {mode & 0o077 for mode in modes.values()} == {0}, modes
    assert {"secret", "schedule.json", "server.log", "prefect.db"} <= {file.name for file in modes}
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "secret":
            assert served.secret.split(":")[1].encode() not in file.read_bytes(), file
    assert served.secret not in " ".join(psutil.Process(served.pid).cmdline())


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "prefect"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    (folder / "prefect.db").write_text("")
    (folder / "prefect.db").chmod(0o666)
    make_private_folder(folder)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, folder / "prefect.db")] == [0o700, 0o600]


def test_the_address_of_a_schedule_is_trusted_only_from_this_user_and_while_it_lives(project: Path) -> None:
    make_private_folder(Path(".strop/prefect"))
    assert running_schedule() is None
    withdraw = publish_address("http://127.0.0.1:1/api", "strop:x")
    assert running_schedule() == ("http://127.0.0.1:1/api", "strop:x")

    address = Path(".strop/prefect/schedule.json")
    holder = json.loads(address.read_text())
    for dead in ({"pid": holder["pid"], "started": holder["started"] - 1000}, {"pid": 2**22 + 1}, {"pid": "x"}):
        write_private(address, json.dumps({**holder, **dead}))
        assert running_schedule() is None  # its port may be anybody's now
    write_private(address, json.dumps(holder))
    address.chmod(0o666)
    with pytest.raises(StropError, match="is writable by other users"):
        running_schedule()
    address.chmod(0o600)
    withdraw()
    assert running_schedule() is None
    if os.geteuid() == 0:
        write_private(address, json.dumps(holder))
        os.chown(address, NOBODY, NOBODY)
        with pytest.raises(StropError, match="belongs to another user"):
            read_private(address)


def test_a_link_is_not_followed_to_a_secret(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("strop:x")
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="secret"):
        read_private(tmp_path / "secret")


def test_a_server_without_a_secret_does_not_start() -> None:
    environment = without_prefect(PYTHONPATH=str(REPOSITORY))
    done = subprocess.run(
        [sys.executable, "-m", "flows.runtime.server_process", "0"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no secret" in done.stderr
