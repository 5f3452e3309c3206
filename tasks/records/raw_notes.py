"""Notes about a raw batch, in the metadata of its file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KEY = b"strop"


@dataclass(frozen=True)
class Notes:
    unused: tuple[str, ...] = ()
    """Fields of its records that its shape does not use, as `score` or `messages.name`."""
    reread_of: str = ""
    """The batch whose records it has, read again with other settings; "" for a collected batch."""

    def as_metadata(self) -> dict[str, str]:
        """For a Parquet file; empty without notes."""
        notes: dict[str, Any] = {"unused": list(self.unused)} if self.unused else {}
        notes |= {"reread_of": self.reread_of} if self.reread_of else {}
        return {_KEY.decode(): json.dumps(notes, ensure_ascii=False)} if notes else {}


def notes_of(path: Path) -> Notes:
    """The notes of a raw batch; empty if it is missing."""
    import pyarrow.parquet as pq

    if not path.exists():
        return Notes()
    notes = json.loads((pq.read_metadata(path).metadata or {}).get(_KEY, b"{}"))
    return Notes(tuple(notes.get("unused", ())), notes.get("reread_of", ""))
