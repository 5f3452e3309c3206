"""Reads the registry's SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import RegistryError
from tasks.tracking.artifact_paths import has_absolute_locations
from tasks.tracking.sql_reader import COLUMNS, SqlReader
from tasks.tracking.sqlite_paths import file_error, open_read_only, wait_while_locked

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_readable(path: Path) -> bool:
    """Whether the file has the tables that are read here, and relative locations. MLflow opens any other one: it creates, upgrades
    or refuses it, and makes the locations relative."""
    if not path.is_file():
        return False
    try:
        wait_while_locked(path)
        with open_read_only(path) as database:
            has_columns = all(
                columns <= {str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")}
                for table, columns in COLUMNS.items()
            )
        return has_columns and not has_absolute_locations(path)
    except sqlite3.Error:
        return False


@dataclass(frozen=True)
class FileReader(SqlReader):
    """A registered model and its runs, in a file."""

    path: Path

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with _errors(self.path), open_read_only(self.path) as database:
            return database.execute(query, values).fetchall()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        fix = "Check that it can be read, then run again"
        raise file_error(path, str(error)) or RegistryError(
            f"the registry cannot be read ({error})", where=str(path), fix=fix
        ) from error
