"""A real PostgreSQL server on loopback, started once a session, for registries that are databases."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from support.once import keep_running, once, remove_at_end

USER, PASSWORD, VARIABLE = "ada", "open-sesame-8731", "STROP_TEST_DATABASE_PASSWORD"
START_SECONDS = 60
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
LANGUAGE = ["--locale-provider=icu", "--icu-locale=en-US"]
"""Sorts letters as English does, unlike SQLite and Python."""


def address(port: int, name: str) -> str:
    """The address of a database, with its password as the variable that `log_in` sets."""
    return f"postgresql://{USER}:${{{VARIABLE}}}@127.0.0.1:{port}/{name}"


def log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)


@functools.cache
def port() -> int:
    """The port of the server. Skips a test where the machine has none."""
    if obstacle := _obstacle():
        pytest.skip(obstacle)
    return int((once("postgres", _start) / "port").read_text())


def empty_database() -> str:
    """The name of a new database without tables."""
    return _create("template0")


def database() -> str:
    """The name of a new database with MLflow's tables and nothing in them."""
    return _create((once("postgres-store", _make_store) / "name").read_text())


def run_sql(name: str, *statements: str) -> None:
    """Runs statements in a database, as its owner."""
    with _connected(name) as connection:
        for statement in statements:
            connection.execute(statement)


def everything_in(name: str) -> str:
    """The content of a database."""
    with _connected(name) as connection:
        return str(connection.execute("SELECT database_to_xml(true, true, '')").fetchone()[0])


def _create(template: str) -> str:
    name = f"t{uuid.uuid4().hex}"
    run_sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def _make_store(folder: Path) -> None:
    from tasks.tracking.postgres_setup import prepare_database

    name = empty_database()
    prepare_database(f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port()}/{name}")
    # MLflow keeps its connections, and a database in use cannot be copied
    run_sql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    (folder / "name").write_text(name)


def _connected(name: str) -> Any:
    import psycopg

    return psycopg.connect(
        host="127.0.0.1", port=port(), user=USER, password=PASSWORD, dbname=name, autocommit=True, connect_timeout=10
    )


def _obstacle() -> str:
    if _program("initdb") is None or _program("postgres") is None:
        return "this machine has no PostgreSQL server"
    if os.geteuid() == 0 and _service_user() is None:
        return "PostgreSQL refuses to run as root, and there is no user `postgres`"
    return ""


def _program(name: str) -> str | None:
    """A program of PostgreSQL; Debian keeps those of a server out of the search path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: place.parent.name.zfill(3))
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, reversed(places))]))


def _service_user() -> Any:
    import pwd

    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


def _start(folder: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="strop-postgres-"))  # the session's folder is closed to another user
    remove_at_end(place, folder)
    options: dict[str, Any] = {}
    (place / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        user = _service_user()
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        for path in (place, place / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    command = [str(_program("initdb")), "-D", str(place / "data"), "-U", USER, "--pwfile", str(place / "password")]
    command += ["-A", "scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
    if subprocess.run([*command, *LANGUAGE], cwd=place, capture_output=True, check=False, **options).returncode:
        shutil.rmtree(place / "data", ignore_errors=True)  # an old release, or one without ICU
        subprocess.run(command, cwd=place, capture_output=True, check=True, **options)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "port": str(number), "unix_socket_directories": "", **QUICK}
    command = [str(_program("postgres")), "-D", str(place / "data")]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, start_new_session=True, **options)
    keep_running(server, folder)
    _wait(server, number, folder / "log")
    (folder / "port").write_text(str(number))


def _wait(server: subprocess.Popen[bytes], number: int, log: Path) -> None:
    import psycopg

    end = time.monotonic() + START_SECONDS
    while True:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            psycopg.connect(host="127.0.0.1", port=number, user=USER, password=PASSWORD, dbname="postgres").close()
        except psycopg.OperationalError:
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.05)
        else:
            return
