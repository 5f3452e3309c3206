"""mlflow/serve.sh gives only its owner access to the registry: a login, no page of another origin, no file for another user."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.processes import wait_for
from support.project import REPOSITORY

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
CREATE = "/api/2.0/mlflow/experiments/create"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
OPEN = {"/health", "/version"}
ROUTES = {
    SEARCH,
    ARTIFACTS,
    "/",
    "/graphql",
    "/openapi.json",
    "/v1/traces",
    "/ajax-api/2.0/mlflow/registered-models/search",
}


class Served:
    def __init__(self, root: Path, port: int, pid: int) -> None:
        self.root, self.port, self.pid = root, port, pid

    @property
    def password(self) -> str:
        return (self.root / ".strop/mlflow/password").read_text().strip()

    def ask(self, method: str, path: str, password: str | None = None, body: str | None = None, **headers: str) -> int:
        """The status of the answer."""
        if password is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        status = connection.getresponse().status
        connection.close()
        return status

    def is_up(self) -> bool:
        try:
            return self.ask("GET", "/health") == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    (root / "mlflow").mkdir()
    shutil.copy(REPOSITORY / "mlflow/serve.sh", root / "mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with (root / "log").open("w") as log:
        process = subprocess.Popen(
            ["sh", "mlflow/serve.sh"], cwd=root, env={**kept, "PATH": path, "PORT": str(port)}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    made = Served(root, port, process.pid)
    try:
        wait_for(lambda: made.is_up() or process.poll() is not None, 120, "the registry's server")
        assert process.poll() is None, (root / "log").read_text()
        yield made
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_nothing_but_its_health_is_shown_without_the_password(served: Served) -> None:
    for password in (None, "guessed", ""):
        assert {route: served.ask("GET", route, password) for route in ROUTES} == dict.fromkeys(ROUTES, 401)
        assert served.ask("POST", CREATE, password, '{"name": "x"}') == 401
        assert served.ask("PUT", f"{ARTIFACTS}/model.pkl", password, "x") == 401
    assert served.ask("GET", SEARCH, served.password) == 200


def test_a_page_of_another_origin_changes_nothing_even_with_the_password(served: Served) -> None:
    for origin in ("https://evil.example", "null"):
        assert served.ask("POST", CREATE, served.password, '{"name": "y"}', Origin=origin) == 403
    assert served.ask("GET", SEARCH, served.password, Host="evil.example") == 403
    own = f"http://127.0.0.1:{served.port}"
    assert served.ask("POST", CREATE, served.password, '{"name": "z"}', Origin=own) == 200


def test_the_password_is_in_one_file_of_mode_0600_and_on_no_command_line(served: Served) -> None:
    folder = served.root / ".strop/mlflow"
    assert {stat.S_IMODE(each.stat().st_mode) & 0o077 for each in (folder, *folder.iterdir())} == {0}
    assert stat.S_IMODE((served.root / "mlflow/mlflow.db").stat().st_mode) & 0o077 == 0
    family = [psutil.Process(served.pid), *psutil.Process(served.pid).children(recursive=True)]
    assert served.password not in " ".join(" ".join(process.cmdline()) for process in family)
    assert served.password not in (served.root / "log").read_text()
