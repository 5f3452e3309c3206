"""The columns that an item's records have, against those that its source needs."""

from __future__ import annotations

import difflib
from typing import Any

from tasks.errors import SourceError
from tasks.ingest.fields import REQUIRED_FIELDS, WITHIN_TURNS
from tasks.ingest.settings import Source

MOST_COLUMNS = 10_000
"""Records whose keys are data, not columns, must not fill the memory."""


class ColumnCheck:
    """Looks at every record; a source whose mapping is wrong is told before anything of the file is taken."""

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
        """(field, column) of what is needed, or mapped, and in no record."""
        if not self.records:
            return []
        within = WITHIN_TURNS if self.source.shape in ("sharegpt", "messages", "preference", "kto") else frozenset()
        needed = {field: self.source.columns.get(field, field) for field in REQUIRED_FIELDS[self.source.shape]}
        needed |= {field: column for field, column in self.source.columns.items() if field not in within}
        return [(field, column) for field, column in needed.items() if column not in self.columns]

    def check(self, name: str) -> None:
        """Raises SourceError where a column that is needed, or mapped, is in no record."""
        missing = self.missing()
        if not missing:
            return
        field, column = missing[0]
        there = list(self.columns)
        near = difflib.get_close_matches(column, there, n=1, cutoff=0.5)
        shown = ", ".join(f"`{each}`" for each in there[:20]) + (", ..." if len(there) > 20 else "")
        hint = f"Did you mean `{near[0]}`? " if near else ""
        mapping = f"{{{field}: {near[0] if near else 'COLUMN'}}}"
        raise SourceError(
            f"no record has a column `{column}`; there are {shown}",
            where=f"source `{self.source.name}`, {name}",
            fix=f"{hint}Say where it is found: columns: {mapping}",
        )


def require_once(columns: list[str], where: str) -> None:
    """Raises SourceError where a column stands twice: a record has room for one of them."""
    if twice := next((name for place, name in enumerate(columns) if name in columns[:place]), None):
        fix = "Rename or leave out one of them"
        raise SourceError(f"has the column `{twice}` more than once", where=where, fix=fix)
