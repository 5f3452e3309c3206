"""Fields of a source's records that its shape does not use: reported once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tasks.ingest.connectors.corrections import TRACE
from tasks.ingest.fields import FIELDS, WITH_TURNS, WITHIN_TURNS
from tasks.ingest.settings import Source
from tasks.records.code_tests import TEST_COLUMNS
from tasks.records.origin import ORIGINS
from tasks.records.row import NO_TEXT
from tasks.records.turns import TURN_KEYS

MOST_FIELDS = 100
"""A bound, as the keys of records may be data."""
MOST_NAMED = 10


class UnusedFields:
    """Collects the unused `fields` of records and of their turns."""

    def __init__(self, source: Source) -> None:
        fields, columns = FIELDS[source.shape], source.columns
        own = [name for name in fields if name not in WITHIN_TURNS]
        self.known = {columns.get(name, name) for name in own} | {*ORIGINS, TRACE}
        self.known |= {columns[name] for name in ("id", *TEST_COLUMNS) if name in columns}
        self.family = source.family if source.shape == "row" else None
        if source.shape == "row":
            self.known |= NO_TEXT.keys() | {"family"}
        self.turns = [columns.get(name, name) for name in WITH_TURNS if name in fields]
        self.within = {columns.get(name, name) for name in WITHIN_TURNS} | TURN_KEYS
        if self.turns:
            self.known.add("loss_mask")
        self.fields: set[str] = set()
        self._last: Any = None

    def look_at(self, record: Any) -> None:
        if not isinstance(record, dict):
            return
        keys = record.keys()
        if keys != self._last:
            self._last = keys
            self._add(key for key in keys if key not in self.known)
        # a row's own family, as in a file of anchors, is the source's or is not used
        if self.family is not None and record.get("family", self.family) != self.family:
            self._add(["family"])
        for column in self.turns:
            turns = record.get(column)
            if isinstance(turns, str) and turns.lstrip()[:1] in ("[", "{"):  # CSV and databases store turns as text
                turns = _value_of(turns)
            for turn in turns if isinstance(turns, list) else [turns]:
                if isinstance(turn, dict):
                    self._add(f"{column}.{key}" for key in turn if key not in self.within)

    def _add(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self.fields) < MOST_FIELDS:
                self.fields.add(name[:100])


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def note(source: str, fields: Iterable[str]) -> str:
    """The message about unused fields of a source."""
    ranked = sorted(fields)
    named = ", ".join(f"field `{name}` is not used" for name in ranked[:MOST_NAMED])
    more = f", nor are {len(ranked) - MOST_NAMED:,} more" if len(ranked) > MOST_NAMED else ""
    return f"source `{source}`: {named}{more}"
