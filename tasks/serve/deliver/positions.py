"""How far the records of each gateway are delivered; the file is written after each delivery."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.runtime.files import read_object, write_json

NAME = "delivered.json"
"""In the spool's folder."""


@dataclass
class Position:
    """In a segment."""

    inode: int
    responses: int = 0
    """Where the first line begins whose response is not delivered."""
    feedback: int = 0
    is_complete: bool = False
    """All of it is delivered, and it will not be written again."""


@dataclass
class Positions:
    destination: str = ""
    """Of the registry that has these records: another one gets them all."""
    segments: dict[str, Position] = field(default_factory=dict)
    """Path within the spool → position."""
    day: str = ""
    reviews: int = 0
    """Answers that were added to the review queue on that day."""

    def of(self, path: Path, spool: Path) -> Position:
        """The position in a segment. If an erasure rewrote it, it is delivered again, unless it was complete."""
        status = path.stat()
        position = self.segments.setdefault(path.relative_to(spool).as_posix(), Position(status.st_ino))
        if position.inode != status.st_ino or status.st_size < max(position.responses, position.feedback):
            end = status.st_size if position.is_complete else 0
            position.inode, position.responses, position.feedback = status.st_ino, end, end
        return position

    def keep(self, names: set[str]) -> None:
        """Forgets segments whose retention has ended."""
        self.segments = {name: position for name, position in self.segments.items() if name in names}


def read_positions(spool: Path) -> Positions:
    """The positions; those of nothing delivered if the file is missing or damaged: what is delivered again is stored once."""
    path = spool / NAME
    if not path.exists():
        return Positions()
    try:
        content: dict[str, Any] = read_object(path)
        segments = {name: Position(**values) for name, values in content.pop("segments").items()}
        return Positions(segments=segments, **content)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Positions()


def write_positions(spool: Path, positions: Positions) -> None:
    write_json(spool / NAME, dataclasses.asdict(positions))
