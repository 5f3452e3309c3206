"""One record of a source, as a reader or connector returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record: parsed, or its bytes and why they could not be parsed."""

    line: int
    """Line (JSONL, CSV, text) or record number (JSON, Parquet) in the file, from 1."""
    record: Any = None
    raw: bytes | None = None
    error: str | None = None
    """As "code: detail"."""

    @property
    def is_parsed(self) -> bool:
        return self.raw is None
