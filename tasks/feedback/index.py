"""The responses and feedback in the spool, by id: read from the segments, and kept up to date as they grow.

It has some 130 bytes for each response. Several gateways of a project know each other's responses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tasks.feedback.erased import ErasedIds
from tasks.feedback.lines import read_lines
from tasks.feedback.records import FEEDBACK, RESPONSE
from tasks.feedback.spool import segments

_RESPONSE = re.compile(rb'\{"kind":"response","id":"resp_([0-9a-f]{32})","key":"([^"\\]*)","choices":(\d+)')
_ID = re.compile(r"resp_([0-9a-f]{32})")


class Owner(NamedTuple):
    """Whose response it is."""

    key: str
    choices: int


class KnownFeedback(NamedTuple):
    id: str
    when: float
    digest: str


@dataclass
class _Segment:
    inode: int
    end: int = 0
    """Where the next record begins."""
    responses: dict[bytes, Owner] = field(default_factory=dict)
    feedback: dict[str, KnownFeedback] = field(default_factory=dict)
    """By id, the latest."""
    requests: dict[str, KnownFeedback] = field(default_factory=dict)
    """By the digest of the `Idempotency-Key`."""


class SpoolIndex:
    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.damage: list[str] = []
        """Messages about damaged records; the reader takes them."""
        self._segments: dict[Path, _Segment] = {}
        self._owners: dict[Owner, Owner] = {}
        self._erased = ErasedIds(spool)

    def refresh(self) -> None:
        """Reads what was written since the last call, by any gateway."""
        present = {path: self._segments.get(path) for path in segments(self.spool)}
        self._segments = {}
        for path, known in present.items():
            try:
                status = path.stat()
                if known is None or known.inode != status.st_ino or status.st_size < known.end:
                    known = _Segment(status.st_ino)
                if status.st_size > known.end:
                    self._read(path, known)
            except FileNotFoundError:  # its retention ended meanwhile
                continue
            self._segments[path] = known

    def owner(self, response: str) -> Owner | None:
        """Whose response it is; None if it is unknown or erased."""
        match = _ID.fullmatch(response)
        if match is None or response in self._erased.ids():
            return None
        digits = bytes.fromhex(match[1])
        return next((s.responses[digits] for s in self._segments.values() if digits in s.responses), None)

    def feedback(self, feedback_id: str) -> KnownFeedback | None:
        """The latest feedback with this id."""
        known = [
            segment.feedback[feedback_id] for segment in self._segments.values() if feedback_id in segment.feedback
        ]
        return max(known, key=lambda item: item.when, default=None)

    def request(self, digest: str) -> KnownFeedback | None:
        """The feedback that was sent with an `Idempotency-Key`."""
        return next((s.requests[digest] for s in self._segments.values() if digest in s.requests), None)

    def _read(self, path: Path, segment: _Segment) -> None:
        for line in read_lines(path, segment.end, self.damage):
            segment.end = line.end
            kind, _ = line.start
            if kind == RESPONSE and (match := _RESPONSE.match(line.content)):
                owner = Owner(match[2].decode(), int(match[3]))
                segment.responses[bytes.fromhex(match[1].decode())] = self._owners.setdefault(owner, owner)
            elif kind == FEEDBACK:
                record = line.record
                known = KnownFeedback(record["id"], record["when"], record["digest"])
                segment.feedback[known.id] = known
                if record.get("request"):
                    segment.requests[record["request"]] = known
