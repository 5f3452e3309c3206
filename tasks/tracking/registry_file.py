"""The registry as a file: what must be right about mlflow/mlflow.db before MLflow opens it.

MLflow would wait for minutes on a file that it cannot open, break a fresh one that two processes open at once, and write
absolute paths that a renamed project folder no longer has.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tasks.errors import RegistryError
from tasks.work import project

ARTIFACT_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""Where MLflow keeps absolute paths."""


def path_of(uri: str) -> Path | None:
    """The file behind a `sqlite:///` address; None for any other."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix).split("?")[0]) if uri.startswith(prefix) else None


def schema_version(path: Path) -> str | None:
    """Which migration the file is at; None for a file that is not there or empty.

    Raises:
        RegistryError: it cannot be opened, or is no database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "alembic_version" not in tables:
                return None
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(found[0]) if found else None
    except sqlite3.Error as error:
        fix = "Restore it from a backup, or move it away: versions can be registered anew"
        raise RegistryError(f"the registry cannot be opened ({error})", where=str(path), fix=fix) from error


def follow_move(path: Path, artifacts: Path) -> bool:
    """Where the project folder was moved or renamed, corrects the absolute paths in the file. True if it did.

    A file outside the project did not move with it, and may hold another project's paths: it is left as it is.
    """
    if not path.resolve().is_relative_to(project().resolve()):
        return False
    here = str(artifacts.resolve())
    tail = f"/{artifacts.as_posix()}"
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        found = database.execute("SELECT artifact_location FROM experiments").fetchall()
        places = {
            place for (place,) in found if place and place.endswith(tail) and place != here and "://" not in place
        }
        for place in places:
            for table, column in ARTIFACT_PATHS:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} LIKE ? || '/%'",
                    (here, len(place) + 1, place, place),
                )
    return bool(places)
