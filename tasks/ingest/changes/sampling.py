"""A random sample of a source's records, for `max_rows`: those with the lowest ranks, which depend only on seed and record.

So the sample of a file that is sorted by label has all labels, and the order of the records does not matter. The source is read
twice: to rank its records, and to collect them.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

from tasks.ingest.changes.occurrences import ItemOccurrences, RecordCounts
from tasks.ingest.readers.raw_record import RawRecord
from tasks.records.raw_batch import digest_of, record_digest


class Sample:
    """Ranks the records of some items, then selects the `size` lowest."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed = seed
        self.size = size
        self._lowest: list[int] = []  # negated, so that the heap removes the highest first

    def rank(self, records: Iterable[RawRecord], record_counts: RecordCounts) -> None:
        """Ranks the records of an item that are new."""
        occurrences = ItemOccurrences(record_counts)
        for record in records:
            digest = _digest(record)
            if not occurrences.is_new(digest):
                continue
            rank = -self._rank(digest)
            if len(self._lowest) < self.size:
                heapq.heappush(self._lowest, rank)
            else:
                heapq.heappushpop(self._lowest, rank)

    def is_selected(self, record: RawRecord) -> bool:
        return len(self._lowest) < self.size or self._rank(_digest(record)) <= -self._lowest[0]

    def _rank(self, digest: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self.seed}\n{digest}".encode(), digest_size=8).digest())


def _digest(record: RawRecord) -> str:
    return record_digest(None, record.raw) if record.raw is not None else digest_of(record.record)
