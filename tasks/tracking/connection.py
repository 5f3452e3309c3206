"""Connecting to MLflow: a fast check that it is reachable, its log output silenced, its errors in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.errors import RegistryError, disk_error, one_line, without_sql
from tasks.runtime.logs.libraries import level_of, set_library_level
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.login import has_login
from tasks.tracking.sqlite_paths import file_error, path_of, wait_while_locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWER_SECONDS = 10.0
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
TIMEOUT, TRANSFER_SECONDS = "MLFLOW_HTTP_REQUEST_TIMEOUT", 3600
MLFLOW_LEVEL = "MLFLOW_LOGGING_LEVEL"
STORE_CLIENTS = ("azure", "boto3", "botocore", "google")
"""Packages that MLflow uses for files that are not on a disk."""
NOT_LOGGED_IN, NOT_PERMITTED = 401, 403


@dataclass(frozen=True)
class RegistryConnection:
    """A registered model, the experiment of its runs, and the client for both."""

    uri: str
    model: str
    client: MlflowClient
    experiment_id: str

    @property
    def address(self) -> str:
        """The address without its password, for messages."""
        return without_credentials(self.uri)


def require_reachable(uri: str) -> None:
    """Connects once: MLflow itself would retry for minutes before it gives up."""
    parts = urlsplit(uri)
    if not parts.hostname:
        return
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname):
        return  # it may be reachable through the proxy only
    port = parts.port or PORTS.get(parts.scheme.split("+")[0])
    if port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "Start it, or fix register.tracking_uri in params.yaml (or MLFLOW_TRACKING_URI)"
        raise RegistryError(
            f"the registry cannot be reached ({reason})", where=without_credentials(uri), fix=fix
        ) from error


@contextlib.contextmanager
def mlflow_errors(uri: str, is_ours: bool = True) -> Iterator[None]:
    """Waits while another process locks the registry's file; turns errors of MLflow, its database or server into one-line errors.

    Args:
        is_ours: False for a file that cannot be rebuilt from this project.
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
        message = without_sql(error)
        if path is not None and (problem := file_error(path, message, is_ours)):
            raise problem from error
        if failure := disk_error(error):
            raise failure from error
        raise refusal(_status_of(error), message, without_credentials(uri), has_login=has_login()) from error
    except Exception as error:
        if problem := _store_error(error, without_credentials(uri)):
            raise problem from error
        raise


def _store_error(error: Exception, where: str) -> RegistryError | None:
    """The error for one of a client of a file store, such as S3, which MLflow passes on; None for any other error."""
    fix = "Check register.artifacts, and the login for it"
    if isinstance(error, ImportError):
        fix = "Install it. For files at s3:// that is boto3, at gs:// google-cloud-storage, at wasbs:// azure-storage-blob"
        return RegistryError(f"a package is missing ({one_line(error)})", where=where, fix=fix)
    if type(error).__module__.partition(".")[0] in STORE_CLIENTS:
        return RegistryError(f"the files cannot be read or written ({one_line(error)})", where=where, fix=fix)
    return None


def all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    """The entities of every page of a search of MLflow's client."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return


def refusal(status: int | None, message: str, where: str, *, has_login: bool) -> RegistryError:
    """The error for a server that refuses a request.

    Args:
        status: of its HTTP response, if known.
    """
    if status == NOT_LOGGED_IN:
        what = "the registry refused the login" if has_login else "the registry needs a login"
        fix = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, then run again"
        return RegistryError(f"{what} (401)", where=where, fix=fix)
    if status == NOT_PERMITTED:
        fix = "Ask the server's administrator for EDIT on the experiment and the model, or use another login"
        return RegistryError(f"the registry does not permit this (403: {message})", where=where, fix=fix)
    fix = "Check that it is running and has this version of MLflow, then run again"
    return RegistryError(f"the registry refused ({message})", where=where, fix=fix)


def _status_of(error: BaseException) -> int | None:
    """The HTTP status of a server's answer, as MLflow or requests report it."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    return {"UNAUTHENTICATED": NOT_LOGGED_IN, "PERMISSION_DENIED": NOT_PERMITTED}.get(getattr(error, "error_code", ""))


def silence_mlflow() -> None:
    """MLflow logs each migration, path and guess, and prints the trace of an error that it also raises.

    MLFLOW_LOGGING_LEVEL turns the log output on.
    """
    # for an MLflow that is imported later
    os.environ.setdefault(MLFLOW_LEVEL, logging.getLevelName(level_of("mlflow")))
    for name in ("mlflow", "alembic"):
        set_library_level(name)


@contextlib.contextmanager
def long_timeout() -> Iterator[None]:
    """Lets MLflow wait for an hour: a server answers only after it has stored a model of many gigabytes."""
    with environment_restored(TIMEOUT):
        os.environ[TIMEOUT] = str(max(TRANSFER_SECONDS, int(os.environ.get(TIMEOUT) or 0)))
        yield


@contextlib.contextmanager
def environment_restored(name: str) -> Iterator[None]:
    """Restores a variable after the block."""
    previous = os.environ.get(name)
    try:
        yield
    finally:
        if previous is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = previous
