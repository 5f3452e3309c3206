"""Problems of a registry that is a PostgreSQL database: each is one line without the password, if possible before a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import postgres

from tasks.config import load_config
from tasks.errors import RegistryError
from tasks.register.settings import RegisterSettings
from tasks.tracking import artifacts_of_database, postgres_setup
from tasks.tracking.access import require_registry
from tasks.tracking.glance import glance
from tasks.tracking.postgres import with_driver
from tasks.tracking.readable import open_for_reading
from tasks.tracking.registry import open_registry


def test_a_process_that_waits_for_the_tables_too_long_says_so(
    use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(name := postgres.empty_database())
    monkeypatch.setattr(postgres_setup, "PREPARE_SECONDS", 1)
    uri = with_driver(f"postgresql://{postgres.USER}:{postgres.PASSWORD}@127.0.0.1:{postgres.port()}/{name}")
    with (
        postgres_setup._one_at_a_time(uri),
        pytest.raises(RegistryError, match="another process is still preparing the registry"),
    ):
        open_registry(load_config())


@pytest.mark.parametrize(
    ("password", "database", "problem"),
    [
        ("wrong-one-77", "postgres", "password authentication failed"),
        (postgres.PASSWORD, "nowhere", 'database "nowhere" does not exist'),
        ("wrong %2F@: 密码", "postgres", "password authentication failed|invalid"),
    ],
)
def test_a_refused_login_is_one_line_at_once_without_the_password(
    use: Callable[..., None], monkeypatch: pytest.MonkeyPatch, password: str, database: str, problem: str
) -> None:
    from urllib.parse import quote

    use(database)
    monkeypatch.setenv(postgres.VARIABLE, quote(password, safe=""))
    began = time.monotonic()
    for look in (open_registry, open_for_reading, require_registry):
        with pytest.raises(RegistryError, match=problem) as raised:
            look(load_config())
        assert "\n" not in str(raised.value)
        assert password not in str(raised.value)
        assert quote(password, safe="") not in str(raised.value)
        assert "register.tracking_uri" in str(raised.value)
    state = glance(load_config())
    assert state.problem is not None
    assert password not in state.problem
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "login",
    ["ada:se/cret", "ada:se#cret", "ada:se?cret", "ada:[secret", "ada:se cret", "ada:secret@h1:5432,h2:5432/db?x="],
)
def test_an_address_that_cannot_be_read_is_one_line_without_it(
    use: Callable[..., None], monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    use("any")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://{login}@127.0.0.1:1/db")
    for look in (open_registry, open_for_reading, require_registry, glance):
        with pytest.raises(RegistryError, match=r"address cannot be read: .* as %XX") as raised:
            look(load_config())
        assert "cret" not in str(raised.value)


def test_a_missing_driver_names_what_to_install(use: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def without_driver(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *more)

    use(postgres.database())
    monkeypatch.setattr(builtins, "__import__", without_driver)
    for look in (open_registry, require_registry):
        with pytest.raises(
            RegistryError, match=r"driver for PostgreSQL cannot be loaded .*strop\[postgres\]"
        ) as raised:
            look(load_config())
        assert postgres.PASSWORD not in str(raised.value)


def test_tables_of_another_application_or_of_another_mlflow_are_left_as_they_are(use: Callable[..., None]) -> None:
    use(other := postgres.empty_database())
    postgres.run_sql(other, "CREATE TABLE customers (id int)")
    for look in (open_registry, require_registry):
        with pytest.raises(RegistryError, match=r"has other tables \(customers\), and none of MLflow"):
            look(load_config())
    use(newer := postgres.database())
    postgres.run_sql(newer, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    for look in (open_registry, require_registry):
        with pytest.raises(RegistryError, match=r"another version of MLflow \(schema f{12}, here .*mlflow db upgrade"):
            look(load_config())


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_CN"])
def test_a_database_that_cannot_store_every_character_is_found_before_a_run(
    use: Callable[..., None], encoding: str
) -> None:
    name = f"{encoding.lower()}_{postgres.empty_database()}"
    provider = "LOCALE_PROVIDER libc" if encoding == "SQL_ASCII" else ""  # ICU has no such encoding
    postgres.run_sql(
        "postgres", f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C' {provider}"
    )
    use(name)
    for look in (open_registry, require_registry):
        with pytest.raises(RegistryError, match=f"has the encoding {encoding}, not UTF8.* createdb --encoding UTF8"):
            look(load_config())
    assert glance(load_config()).problem is None


def test_a_user_who_may_only_read_is_found_before_a_run(use: Callable[..., None]) -> None:
    use(name := postgres.database())
    require_registry(load_config())
    role = f"reader_{name}"
    create = f"CREATE ROLE {role} LOGIN PASSWORD '{postgres.PASSWORD}'"
    postgres.run_sql(name, create, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    address = postgres.address(postgres.port(), name).replace(postgres.USER, role, 1)
    use(name, tracking_uri=address)
    with pytest.raises(RegistryError, match="this user may only read"):
        require_registry(load_config())
    assert glance(load_config()).problem is None


def test_a_place_for_the_files_that_is_too_long_or_relative_is_refused(use: Callable[..., None]) -> None:
    use(postgres.database(), artifacts=f"s3://{'b' * artifacts_of_database.LONGEST}")
    with pytest.raises(RegistryError, match=r"register\.artifacts: the address has 155 characters"):
        open_registry(load_config())
    with pytest.raises(ValueError, match="should be an address"):
        RegisterSettings(artifacts="store")


@pytest.mark.parametrize(
    ("place", "problem"),
    [("gs://bucket/strop", "package is missing .*google"), ("s3://bucket/strop", "files cannot be .* credentials")],
)
def test_a_store_of_files_without_its_package_or_login_is_found_before_a_run(
    use: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, problem: str
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    use(postgres.database(), artifacts=place)
    with pytest.raises(RegistryError, match=problem):
        require_registry(load_config())
    registry = open_registry(load_config())
    for look in (require_registry, lambda _: registry.log_files(registry.create_run("x", {}), Path("dvc.yaml"))):
        with pytest.raises(RegistryError, match=problem) as caught:
            look(load_config())
        assert "\n" not in str(caught.value)
