"""A sample of a source's records, for `max_rows`: those of the lowest ranks, which follow from a seed and the record alone.

So a file that is sorted by its labels gives all of them, and the same records give the same sample in any order. The source is
read twice: first it is ranked, then taken.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

from tasks.ingest.changes.occurrences import HeldRecords, Reading
from tasks.ingest.readers.raw_record import RawRecord
from tasks.records.raw_batch import digest_of, record_digest


class Sample:
    """Ranks the records of some items, and then says which of them are among the `room` that are taken."""

    def __init__(self, seed: int, room: int) -> None:
        self.seed = seed
        self.room = room
        self._lowest: list[int] = []  # negated, so that the highest of them is the first to go

    def look_at(self, records: Iterable[RawRecord], held: HeldRecords) -> None:
        """Ranks the records of an item that are not held."""
        reading = Reading(held)
        for found in records:
            digest = _digest(found)
            if not reading.is_new(digest):
                continue
            rank = -self._rank(digest)
            if len(self._lowest) < self.room:
                heapq.heappush(self._lowest, rank)
            else:
                heapq.heappushpop(self._lowest, rank)

    def is_taken(self, found: RawRecord) -> bool:
        return len(self._lowest) < self.room or self._rank(_digest(found)) <= -self._lowest[0]

    def _rank(self, digest: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self.seed}\n{digest}".encode(), digest_size=8).digest())


def _digest(found: RawRecord) -> str:
    return record_digest(None, found.raw) if found.raw is not None else digest_of(found.record)
