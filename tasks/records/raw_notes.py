"""What a raw batch records of itself beside its records, in its file's metadata."""

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
    """The batch whose records it holds once more, read under other settings; "" for one that was collected."""

    def as_metadata(self) -> dict[str, str]:
        """For a Parquet file; nothing where there is nothing to say."""
        said: dict[str, Any] = {"unused": list(self.unused)} if self.unused else {}
        said |= {"reread_of": self.reread_of} if self.reread_of else {}
        return {_KEY.decode(): json.dumps(said, ensure_ascii=False)} if said else {}


def notes_of(path: Path) -> Notes:
    """The notes of a raw batch; none where it is not here."""
    import pyarrow.parquet as pq

    if not path.exists():
        return Notes()
    said = json.loads((pq.read_metadata(path).metadata or {}).get(_KEY, b"{}"))
    return Notes(tuple(said.get("unused", ())), said.get("reread_of", ""))
