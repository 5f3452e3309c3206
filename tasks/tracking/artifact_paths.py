"""Artifact locations in the registry's file: relative to the project, so that it may be moved, copied and linked.

MLflow makes an experiment's location absolute when it creates the experiment, and uses a relative one unchanged afterwards
(docs/decisions/0016-registry-paths.md). So the location is made relative once, and everything below it follows.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import pathname2url, url2pathname

from tasks import paths
from tasks.tracking.sqlite_paths import open_read_only, path_of, project_of, wait_while_locked

ARTIFACTS = paths.REGISTRY_FOLDER / "artifacts"

COLUMNS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""The columns that MLflow copies an experiment's location to."""

_project: Path | None = None
"""The project of the registry that was opened most recently."""


def location_for(path: Path) -> str:
    """The artifact location of a new experiment. MLflow needs an absolute one.

    In a project it is a plain path, which `make_relative` changes next. Outside of any project it is a `file:` address, which
    stays: MLflow decodes a plain path.
    """
    project = project_of(path)
    return str(project / ARTIFACTS) if project else (path.resolve().parent / ARTIFACTS.name).as_uri()


def make_relative(path: Path) -> bool:
    """Makes the locations below the project relative to it, also those of a project that was moved. True if any changed.

    A file outside of any project keeps absolute locations: it belongs to no folder that could move.
    """
    project = project_of(path)
    if project is None:
        return False
    tail = f"/{ARTIFACTS.as_posix()}"
    with closing(sqlite3.connect(path, timeout=30)) as database:
        if not (locations := _absolute_locations(database, tail)):
            return False
    wait_while_locked(path)
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        for absolute, relative in locations.items():
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (relative, absolute)
            )
            for table, column in COLUMNS:
                _make_rows_relative(database, table, column, absolute, project, relative)
    return True


def has_absolute_locations(path: Path) -> bool:
    """Whether `make_relative` would change the file: its project may have been moved or copied."""
    if project_of(path) is None:
        return False
    with open_read_only(path) as database:
        return bool(_absolute_locations(database, f"/{ARTIFACTS.as_posix()}"))


def local_folder(location: str, uri: str) -> Path | None:
    """The local folder that a location in the registry `uri` names; None for a location that is not on a disk."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    folder = Path(url2pathname(parts.path) if parts.scheme else location)
    return folder if folder.is_absolute() else (_project_of_uri(uri) or Path.cwd()) / folder


def resolve_below(path: Path | None) -> None:
    """Makes MLflow, in this process, resolve relative locations against the project of a registry file, whatever the working
    directory, and use plain paths without decoding them."""
    from mlflow.store.artifact import artifact_repository_registry
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    global _project
    project = project_of(path) if path else None
    if project != _project:
        _clear_location_cache()
    _project = project

    def open_local(location: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
        # MLflow decodes a plain path: a folder `my%20project` would become `my project`
        folder = (_project_of_uri(tracking_uri or "") or Path.cwd()) / location
        location = pathname2url(str(folder))
        return LocalArtifactRepository(location, tracking_uri, registry_uri)

    artifact_repository_registry.get_registered_artifact_repositories()[""] = open_local


def _clear_location_cache() -> None:
    """MLflow caches the artifact location by run id; in a copy of a project the same run has another location."""
    from mlflow.tracking._tracking_service import utils

    getattr(utils, "_artifact_repos_cache", {}).clear()


def _project_of_uri(uri: str) -> Path | None:
    path = path_of(uri)
    return (project_of(path) if path else None) or _project


def _absolute_locations(database: sqlite3.Connection, tail: str) -> dict[str, str]:
    """Absolute location of an experiment → the relative one: of ours, and of MLflow's empty default experiment."""
    rows = database.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    locations = {}
    for number, location in rows:
        if not location or not location.startswith("/"):
            continue
        if location.endswith(tail):
            locations[location] = tail[1:]
        elif number == 0 and location.endswith("/mlruns/0") and not _is_used(database, number):
            locations[location] = "mlruns/0"
    return locations


def _is_used(database: sqlite3.Connection, experiment: int) -> bool:
    return database.execute("SELECT 1 FROM runs WHERE experiment_id = ?", (experiment,)).fetchone() is not None


def _make_rows_relative(
    database: sqlite3.Connection, table: str, column: str, absolute: str, project: Path, relative: str
) -> None:
    """Changes the rows whose artifacts moved with the project; those of another project that used this file stay."""
    rows = database.execute(
        f"SELECT rowid, {column} FROM {table} WHERE substr({column}, 1, ?) = ?", (len(absolute) + 1, f"{absolute}/")
    ).fetchall()
    for row, value in rows:
        new = relative + value[len(absolute) :]
        if (project / new).exists() or not Path(value).exists():
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
