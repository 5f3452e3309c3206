"""Reaching MLflow: quick to say that it is not there, quiet where it chatters, and its refusals told in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import urllib.request
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit

from tasks.errors import RegistryError, disk_error, without_sql
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.login import has_login
from tasks.tracking.sqlite_paths import path_of, trouble_with_file, wait_while_locked

ANSWER_SECONDS = 10.0
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
TIMEOUT, TRANSFER_SECONDS = "MLFLOW_HTTP_REQUEST_TIMEOUT", 3600
MLFLOW_LEVEL = "MLFLOW_LOGGING_LEVEL"
NOT_LOGGED_IN, NOT_PERMITTED = 401, 403


def require_reachable(uri: str) -> None:
    """Knocks once: MLflow itself would try for minutes before it gives up."""
    parts = urlsplit(uri)
    if not parts.hostname or _goes_through_proxy(parts.scheme, parts.hostname):
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


def _goes_through_proxy(scheme: str, host: str) -> bool:
    """Whether the host may be reachable by a proxy alone."""
    return scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)


def without_password(uri: str) -> str:
    """The address as it may be shown."""
    return without_credentials(uri)


@contextlib.contextmanager
def telling(uri: str, is_ours: bool = True) -> Iterator[None]:
    """Waits while another process holds the registry's file, and tells in one line what MLflow, its database or its server refuse.

    Args:
        is_ours: False for a file that can not be made again from this project.
    """
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    path = path_of(uri)
    if path is not None:
        wait_while_locked(path)
    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, requests.RequestException) as error:
        told = without_sql(error)
        if path is not None and (trouble := trouble_with_file(path, told, is_ours)):
            raise trouble from error
        if refused := disk_error(error):
            raise refused from error
        raise _refusal(_status_of(error), told, without_password(uri)) from error


def _refusal(status: int | None, told: str, where: str) -> RegistryError:
    if status == NOT_LOGGED_IN:
        what = "the registry refused the login" if has_login() else "the registry needs a login"
        fix = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, then run again"
        return RegistryError(f"{what} (401)", where=where, fix=fix)
    if status == NOT_PERMITTED:
        fix = "Let whoever keeps the server give this login EDIT on the experiment and the model, or use another login"
        return RegistryError(f"the registry does not permit this (403: {told})", where=where, fix=fix)
    fix = "See that it is up and of this version of MLflow, then run again"
    return RegistryError(f"the registry refused ({told})", where=where, fix=fix)


def _status_of(error: BaseException) -> int | None:
    """The HTTP status that a server answered with, as MLflow or requests report it."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    return {"UNAUTHENTICATED": NOT_LOGGED_IN, "PERMISSION_DENIED": NOT_PERMITTED}.get(getattr(error, "error_code", ""))


def hush() -> None:
    """MLflow reports each migration, each path and each guess, and prints the trace of an error that it raises as well.

    Whoever sets MLFLOW_LOGGING_LEVEL sees it.
    """
    level = os.environ.setdefault(MLFLOW_LEVEL, "CRITICAL")  # MLflow sets its logger so where it is imported later
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.getLevelNamesMapping().get(level.upper(), logging.CRITICAL))


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """A server that puts a model of many gigabytes into its own store answers after that: MLflow waits for it an hour."""
    before = os.environ.get(TIMEOUT)
    os.environ[TIMEOUT] = str(max(TRANSFER_SECONDS, int(before or 0)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[TIMEOUT]
        else:
            os.environ[TIMEOUT] = before


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
