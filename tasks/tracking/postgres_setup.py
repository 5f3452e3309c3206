"""Creates MLflow's tables in an empty PostgreSQL database, one process of one machine at a time.

MLflow has no lock between machines: two that open an empty database at once both create its tables, and one of them fails. Tables
of another version of MLflow are left as they are: other machines use them (docs/decisions/0037-registry-on-postgresql.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.errors import RegistryError
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.connection import silence_mlflow
from tasks.tracking.postgres import (
    connected,
    database_errors,
    engine_of,
    query_rows,
    require_only_mlflow,
    require_unicode,
    tables_of,
)
from tasks.tracking.sqlite_setup import PREPARE_SECONDS, newest_schema

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOCK = int.from_bytes(b"strop")
"""The key of the advisory lock, which is the database's own."""


def prepare_database(uri: str) -> None:
    """Creates the tables if there are none.

    Raises:
        RegistryError: the database cannot be reached, has other tables, or those of another version of MLflow.
    """
    if _is_ready(uri):
        return
    with _one_at_a_time(uri):
        if not _is_ready(uri):
            _create(uri)


def require_schema(uri: str) -> None:
    """For a database that is only read: no table is created.

    Raises:
        RegistryError: it has no tables, or those of another version of MLflow.
    """
    if not _is_ready(uri):
        fix = "Fix its address, or create the tables with MLflow: mlflow db upgrade ADDRESS"
        raise RegistryError("has no tables of MLflow", where=without_credentials(uri), fix=fix)


def schema_in(connection: Connection, uri: str) -> str | None:
    """The version of MLflow's tables; None where there are none yet, or only some of a process that was killed.

    Raises:
        RegistryError: the database has tables, but none of MLflow; those of another version; or it cannot store every character.
    """
    require_unicode(connection, uri)
    tables = tables_of(connection)
    require_only_mlflow(tables, uri)
    rows = query_rows(connection, "SELECT version_num FROM alembic_version") if "alembic_version" in tables else []
    if not rows:
        return None
    if (version := str(rows[0][0])) != (newest := newest_schema()):
        what = f"has the tables of another version of MLflow (schema {version}, here {newest})"
        fix = (
            "Install the MLflow that the other machines have. If this one is newer, back up the database, upgrade it once, and "
            "MLflow on every machine: mlflow db upgrade ADDRESS"
        )
        raise RegistryError(what, where=without_credentials(uri), fix=fix)
    return version


def _is_ready(uri: str) -> bool:
    """Whether the database has MLflow's tables, with the default experiment, which MLflow creates last."""
    with connected(uri) as connection:
        has_tables = schema_in(connection, uri) is not None
        return has_tables and bool(query_rows(connection, "SELECT 1 FROM experiments LIMIT 1"))


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """An advisory lock of the database, which ends with the process's connection. Its transaction does nothing else: one that has
    read a table would block MLflow's changes of it."""
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    with database_errors(uri), engine_of(uri).begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{PREPARE_SECONDS}s'"))
        try:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        except OperationalError as error:
            if "lock timeout" not in str(error):
                raise
            what = "another process is still preparing the registry"
            fix = "End that process, then run again"
            raise RegistryError(what, where=without_credentials(uri), fix=fix) from error
        yield


def _create(uri: str) -> None:
    """All tables, then the default experiment, which two processes must not create at once either."""
    import mlflow.db

    import mlflow

    silence_mlflow()
    mlflow.db.upgrade.callback(uri)
    mlflow.MlflowClient(uri).search_experiments(max_results=1)
