"""Real MLflow servers on loopback, with a login or without, each started once a session."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import postgres
from support.once import keep_running, once

USER, PASSWORD = "admin", "correct-horse-battery"
START_SECONDS = 180

AUTH = """
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/auth.db
admin_username = {user}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@dataclass(frozen=True)
class Server:
    url: str
    folder: Path
    """Holds its database, its artifacts and its log."""


@functools.cache
def empty_store() -> Path:
    """A file with MLflow's tables and nothing in them. MLflow makes them in some fifty migrations, which take seconds."""
    return once("mlflow-store", _make_store) / "mlflow.db"


def give_empty_registry(project: Path) -> None:
    """For a test whose subject is not how the registry of a project is created."""
    (project / "mlflow").mkdir(exist_ok=True)
    shutil.copyfile(empty_store(), project / "mlflow/mlflow.db")


def _make_store(folder: Path) -> None:
    import mlflow.db

    with contextlib.redirect_stderr(None):
        mlflow.db.upgrade.callback(f"sqlite:///{folder}/mlflow.db")


@functools.cache
def server(has_login: bool, on_postgres: bool = False) -> Server:
    """A server as a team's: artifacts go through it. With a login, it knows the user `USER` by `PASSWORD`."""
    name = f"mlflow{'-with-login' if has_login else ''}{'-on-postgres' if on_postgres else ''}"
    folder = once(name, functools.partial(_start, has_login, on_postgres))
    return Server((folder / "url").read_text(), folder)


def _start(has_login: bool, on_postgres: bool, folder: Path) -> None:
    if on_postgres:
        store = f"postgresql+psycopg://{postgres.USER}@127.0.0.1:{postgres.port()}/{postgres.database()}"
    else:
        shutil.copyfile(empty_store(), folder / "mlflow.db")
        store = f"sqlite:///{folder}/mlflow.db"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")}
    environment["PGPASSWORD"] = postgres.PASSWORD  # as in mlflow/compose.yaml
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += [
        "--backend-store-uri",
        store,
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    if has_login:
        (folder / "auth.ini").write_text(AUTH.format(folder=folder, user=USER))
        arguments += ["--app-name", "basic-auth"]
        environment |= {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
        environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "a key for tests"
    command = [sys.executable, "-m", "mlflow", "server", *arguments]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    keep_running(process, folder)
    _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
    if has_login:
        _check_passwords_quickly(folder / "auth.db")
    (folder / "url").write_text(f"http://127.0.0.1:{port}")


def log_in(monkeypatch: pytest.MonkeyPatch, user: str = USER, password: str = PASSWORD) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def _check_passwords_quickly(database: Path) -> None:
    """MLflow checks the password at each request, by a hash that takes a tenth of a second on purpose."""
    from werkzeug.security import generate_password_hash

    quick = generate_password_hash(PASSWORD, "pbkdf2:sha256:1")
    with contextlib.closing(sqlite3.connect(database)) as users, users:
        users.execute("UPDATE users SET password_hash = ? WHERE username = ?", (quick, USER))


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"no server within {START_SECONDS} s: {log.read_text()[-2000:]}")
