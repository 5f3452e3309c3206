"""Whether the registry can be used, before a run needs it: no MLflow is imported and no database is created."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import RegistryError
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.artifacts_of_database import require_location, require_store
from tasks.tracking.connection import refusal, require_reachable
from tasks.tracking.glance import request
from tasks.tracking.login import has_login
from tasks.tracking.postgres import connected, is_postgres, query_rows
from tasks.tracking.postgres_setup import schema_in
from tasks.tracking.registry import deleted_experiment, tracking_login, tracking_uri
from tasks.tracking.sqlite_paths import file_error, open_read_only, path_of

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

MARK = "strop.model"
"""The tag of a server's experiment that is written to find out whether this login may write."""


def require_registry(config: PipelineConfig) -> None:
    """Checks that the registry can be reached, and as far as can be seen, that a run may write to it.

    Of a database other than PostgreSQL, only that its host answers.

    Raises:
        RegistryError: it cannot be reached, needs a login, or permits too little.
        DiskError: its file or folder cannot be written.
    """
    uri = tracking_uri(config)
    path = path_of(uri)
    if path is not None:
        _require_file(path)
        return
    require_reachable(uri)
    if is_postgres(uri):
        _require_database(config, uri)
    elif uri.startswith("http"):
        _require_rights(uri, config.register_.model_name, tracking_login(config))


def _require_file(path: Path) -> None:
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(existing, os.W_OK):
        fix = "Change its permissions, or register.tracking_uri in params.yaml"
        raise RegistryError(f"the registry cannot be written ({existing} is read-only)", where=str(path), fix=fix)
    if existing != path:
        return
    try:
        with open_read_only(path) as database:
            database.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error as error:
        message = str(error)
        if "locked" in message:  # a run waits for the other process
            return
        problem = file_error(path, message)
        raise problem or RegistryError(f"the registry cannot be read ({message})", where=str(path)) from error


def _require_database(config: PipelineConfig, uri: str) -> None:
    """Driver, login, tables, privileges, and the place of the artifacts."""
    require_store(config, _location_in(config, uri), uri)


def _location_in(config: PipelineConfig, uri: str) -> str | None:
    """The place of the artifacts; None where the experiment does not exist yet."""
    model, where = config.register_.model_name, without_credentials(uri)
    fix = "Let the database's administrator grant it, or use another user"
    with connected(uri) as connection:
        if schema_in(connection, uri) is None:
            if query_rows(connection, "SELECT has_schema_privilege(current_schema(), 'CREATE')") != [(True,)]:
                raise RegistryError("this user may not create tables", where=where, fix=fix)
            return None
        if query_rows(connection, "SELECT has_table_privilege('model_versions', 'INSERT')") != [(True,)]:
            raise RegistryError("this user may only read", where=where, fix=fix)
        query = "SELECT experiment_id, lifecycle_stage, artifact_location FROM experiments WHERE name = ?"
        for number, stage, location in query_rows(connection, query, model):
            if stage != "active":
                raise deleted_experiment(model, str(number), where)
            require_location(config, str(location), uri)
            return str(location)
    return None


def _require_rights(uri: str, model: str, login: dict[str, str]) -> None:
    """A server: may this login read the experiment, and write to it? An experiment that does not exist yet is no error."""
    answer = _answer(uri, "GET", "experiments/get-by-name", login, {"experiment_name": model})
    if answer is None:
        return
    experiment = answer["experiment"]
    if experiment.get("lifecycle_stage", "active") != "active":
        raise deleted_experiment(model, str(experiment["experiment_id"]), without_credentials(uri))
    if login or has_login():
        tag = {"experiment_id": experiment["experiment_id"], "key": MARK, "value": model}
        _answer(uri, "POST", "experiments/set-experiment-tag", login, tag)


def _answer(uri: str, method: str, endpoint: str, login: dict[str, str], fields: dict[str, str]) -> Any:
    """The server's JSON; None where it has no such entity.

    Raises:
        RegistryError: it does not answer, or refuses.
    """
    address = without_credentials(uri)
    try:
        response = request(uri, endpoint, login, fields, method=method)
    except OSError as error:
        fix = "Start it, or fix register.tracking_uri in params.yaml (or MLFLOW_TRACKING_URI)"
        reason = type(error).__name__
        raise RegistryError(f"the registry cannot be reached ({reason})", where=address, fix=fix) from error
    try:
        content = response.json()
    except ValueError:
        content = {}
    if response.ok and isinstance(content, dict):
        return content
    if response.status_code == 404 and content.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return None
    message = str(content.get("message") or f"HTTP {response.status_code}")
    raise refusal(response.status_code, message, address, has_login=bool(login) or has_login())
