"""Reaching MLflow: quick to say that it is not there, quiet where it chatters, and its refusals told in one line."""

from __future__ import annotations

import contextlib
import logging
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit

from tasks.errors import RegistryError, disk_error, without_sql

ANSWER_SECONDS = 10.0
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def require_reachable(uri: str) -> None:
    """Knocks once: MLflow itself would try for minutes before it gives up."""
    parts = urlsplit(uri)
    if not parts.hostname:
        return
    port = parts.port or PORTS.get(parts.scheme.split("+")[0])
    if port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "Start it, or mend register.tracking_uri in params.yaml (or MLFLOW_TRACKING_URI)"
        raise RegistryError(
            f"the registry cannot be reached ({reason})", where=without_password(uri), fix=fix
        ) from error


def without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return uri.replace(f":{parts.password}@", ":…@")


@contextlib.contextmanager
def telling(uri: str) -> Iterator[None]:
    """Tells what MLflow, its database or its server refuse in one line."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, requests.RequestException) as error:
        if refused := disk_error(error):
            raise refused from error
        told = without_sql(error)
        fix = "See that it is up and of this version of MLflow, then run again"
        raise RegistryError(f"the registry refused ({told})", where=without_password(uri), fix=fix) from error


def hush() -> None:
    """MLflow tells of each migration, each path and each guess; we tell of errors."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
