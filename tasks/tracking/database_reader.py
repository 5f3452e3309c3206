"""Reads the registry in a PostgreSQL database."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tasks.tracking.postgres import connected, database_errors, engine_of, query_rows, tables_of
from tasks.tracking.sql_reader import COLUMNS, SqlReader

if TYPE_CHECKING:
    from sqlalchemy import Engine


def has_tables(uri: str) -> bool:
    """Whether the database has the tables and columns that are read here."""
    with connected(uri) as connection:
        tables = tables_of(connection)
    return all(columns <= tables.get(table, set()) for table, columns in COLUMNS.items())


@dataclass(frozen=True)
class DatabaseReader(SqlReader):
    """A registered model and its runs, in a database."""

    @cached_property
    def _engine(self) -> Engine:
        with database_errors(self.uri):
            engine = engine_of(self.uri, keeps_connections=True)
        weakref.finalize(self, engine.dispose)
        return engine

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with connected(self.uri, self._engine) as connection:
            return query_rows(connection, query, *values)
