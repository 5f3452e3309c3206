"""Where the registry's file says that artifacts are: relative to the project, so that it may be moved, copied and linked.

MLflow makes an experiment's location absolute when it creates the experiment, and takes a relative one as it is afterwards
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
from tasks.tracking.sqlite_paths import path_of, project_of, wait_while_locked

ARTIFACTS = paths.REGISTRY_FOLDER / "artifacts"

COLUMNS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Where MLflow copies an experiment's location to."""

_project: Path | None = None
"""The project of the registry that was opened last."""


def location_for(path: Path) -> str:
    """Where the artifacts of a new experiment go, as MLflow must be told: absolute.

    Of a project a bare path, which `make_relative` finds next; outside of any an address, which stays: MLflow decodes a bare path.
    """
    project = project_of(path)
    return str(project / ARTIFACTS) if project else (path.resolve().parent / ARTIFACTS.name).as_uri()


def make_relative(path: Path) -> bool:
    """Makes the locations below the project relative to it, those of a project that was moved too. True if there were any.

    A file outside of any project keeps its absolute ones: there is nothing that it moves with.
    """
    project = project_of(path)
    if project is None:
        return False
    tail = f"/{ARTIFACTS.as_posix()}"
    with closing(sqlite3.connect(path, timeout=30)) as database:
        if not (places := _absolute_places(database, tail)):
            return False
    wait_while_locked(path)
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        for place, relative in places.items():
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (relative, place)
            )
            for table, column in COLUMNS:
                _make_rows_relative(database, table, column, place, project, relative)
    return True


def local_folder(location: str, uri: str) -> Path | None:
    """The folder on this disk that a location of the registry `uri` names; None where it is none of a disk."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    place = Path(url2pathname(parts.path) if parts.scheme else location)
    return place if place.is_absolute() else (_project_behind(uri) or Path.cwd()) / place


def resolve_below(path: Path | None) -> None:
    """Lets MLflow, in this process, read relative locations from the project of a registry file, wherever the process is, and bare
    paths as they are."""
    from mlflow.store.artifact import artifact_repository_registry
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    global _project
    project = project_of(path) if path else None
    if project != _project:
        _forget_places()
    _project = project

    def open_local(location: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
        # MLflow decodes a bare path: a folder `my%20project` would become `my project`
        place = (_project_behind(tracking_uri or "") or Path.cwd()) / location
        location = pathname2url(str(place))
        return LocalArtifactRepository(location, tracking_uri, registry_uri)

    artifact_repository_registry.get_registered_artifact_repositories()[""] = open_local


def _forget_places() -> None:
    """MLflow remembers by a run's id where its artifacts are; in a copy of a project the same run has them elsewhere."""
    from mlflow.tracking._tracking_service import utils

    getattr(utils, "_artifact_repos_cache", {}).clear()


def _project_behind(uri: str) -> Path | None:
    path = path_of(uri)
    return (project_of(path) if path else None) or _project


def _absolute_places(database: sqlite3.Connection, tail: str) -> dict[str, str]:
    """Absolute location of an experiment → the relative one: ours, and that of MLflow's empty default experiment."""
    rows = database.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    places = {}
    for number, place in rows:
        if not place or not place.startswith("/"):
            continue
        if place.endswith(tail):
            places[place] = tail[1:]
        elif number == 0 and place.endswith("/mlruns/0") and not _is_used(database, number):
            places[place] = "mlruns/0"
    return places


def _is_used(database: sqlite3.Connection, experiment: int) -> bool:
    return database.execute("SELECT 1 FROM runs WHERE experiment_id = ?", (experiment,)).fetchone() is not None


def _make_rows_relative(
    database: sqlite3.Connection, table: str, column: str, place: str, project: Path, relative: str
) -> None:
    """Those whose artifacts moved with the project; another project that used this file keeps what is in its own folder."""
    rows = database.execute(
        f"SELECT rowid, {column} FROM {table} WHERE substr({column}, 1, ?) = ?", (len(place) + 1, f"{place}/")
    ).fetchall()
    for row, value in rows:
        moved = relative + value[len(place) :]
        if (project / moved).exists() or not Path(value).exists():
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (moved, row))
