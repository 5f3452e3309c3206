"""Compares the columns of an item's records with those that its source requires."""

from __future__ import annotations

import difflib
from typing import Any

from tasks.errors import SourceError
from tasks.ingest.fields import REQUIRED_FIELDS, WITHIN_TURNS
from tasks.ingest.settings import Source

MOST_COLUMNS = 10_000
"""A bound, as the keys of records may be data."""


class ColumnCheck:
    """Collects the columns of records; a wrong mapping is an error before anything of the item is stored."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.columns: dict[str, None] = {}
        self.records = 0
        self._last: Any = None

    def look_at(self, record: Any) -> None:
        if isinstance(record, dict):
            self.records += 1
            keys = record.keys()
            if keys != self._last and len(self.columns) < MOST_COLUMNS:
                self.columns.update(dict.fromkeys(keys))
                self._last = keys

    def missing(self) -> list[tuple[str, str]]:
        """(field, column) of required or mapped columns that no record has."""
        if not self.records:
            return []
        within = WITHIN_TURNS if self.source.shape in ("sharegpt", "messages", "preference", "kto") else frozenset()
        needed = {field: self.source.columns.get(field, field) for field in REQUIRED_FIELDS[self.source.shape]}
        needed |= {field: column for field, column in self.source.columns.items() if field not in within}
        return [(field, column) for field, column in needed.items() if column not in self.columns]

    def check(self, name: str) -> None:
        """Raises SourceError if no record has a required or mapped column."""
        missing = self.missing()
        if not missing:
            return
        field, column = missing[0]
        columns = list(self.columns)
        near = difflib.get_close_matches(column, columns, n=1, cutoff=0.5)
        names = ", ".join(f"`{name}`" for name in columns[:20]) + (", ..." if len(columns) > 20 else "")
        hint = f"Did you mean `{near[0]}`? " if near else ""
        mapping = f"{{{field}: {near[0] if near else 'COLUMN'}}}"
        raise SourceError(
            f"no record has a column `{column}`; there are {names}",
            where=f"source `{self.source.name}`, {name}",
            fix=f"{hint}Map the field to its column: `columns: {mapping}`",
        )


def require_once(columns: list[str], where: str) -> None:
    """Raises SourceError if two columns have the same name: a record can have only one of them."""
    if repeated := next((name for index, name in enumerate(columns) if name in columns[:index]), None):
        fix = "Rename or remove one of them"
        raise SourceError(f"has the column `{repeated}` more than once", where=where, fix=fix)
