"""How often raw contains each record, in 20 bytes a record: a source may have ten million.

Digests are sorted, as two numbers each; those of small new batches are in a dictionary until they are many.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.ingest.readers.raw_record import RawRecord
from tasks.records.raw_batch import digest_of, record_digest

DIGEST_BYTES = 16
MOST_UNSORTED = 100_000


class Digests:
    """A list of digests, stored in 16 bytes each, added and returned as 32 hex characters."""

    def __init__(self) -> None:
        self.content = bytearray()

    def append(self, digest: str) -> None:
        self.content += bytes.fromhex(digest)

    def extend(self, digests: Iterable[str]) -> None:
        self.content += bytes.fromhex("".join(digests))

    def __len__(self) -> int:
        return len(self.content) // DIGEST_BYTES

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.content), DIGEST_BYTES):
            yield self.content[start : start + DIGEST_BYTES].hex()


class RecordCounts:
    """How often raw contains each record of a source."""

    def __init__(self) -> None:
        self._high = self._low = np.zeros(0, np.uint64).data
        self._counts: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._unsorted: Counter[bytes] = Counter()

    def __len__(self) -> int:
        """Different records among the sorted ones."""
        return len(self._high)

    def add(self, more: Digests) -> None:
        # a share of the sorted ones, or each small batch would sort everything again
        if len(self._unsorted) + len(more) <= max(MOST_UNSORTED, len(self) // 8):
            content = bytes(more.content)
            self._unsorted.update(
                content[start : start + DIGEST_BYTES] for start in range(0, len(content), DIGEST_BYTES)
            )
        else:
            self._sort_in(more)

    def find(self, digest: bytes) -> tuple[int, int]:
        """The record's index among the sorted ones (-1 if it is not one of them), and how often it occurs."""
        high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
        index, count = bisect_left(self._high, high), self._unsorted.get(digest, 0)
        while index < len(self._high) and self._high[index] == high:
            if self._low[index] == low:
                return index, count + int(self._counts[index])
            index += 1
        return -1, count

    def _sort_in(self, more: Digests) -> None:
        unsorted = np.frombuffer(b"".join(self._unsorted), ">u8").reshape(-1, 2)
        new = np.frombuffer(more.content, ">u8").reshape(-1, 2)
        high, low = (
            np.concatenate([before, unsorted[:, half], new[:, half]], dtype=np.uint64)
            for half, before in enumerate((self._high, self._low))
        )
        more_counts = np.fromiter(self._unsorted.values(), np.uint32, len(unsorted))
        counts = np.concatenate([self._counts, more_counts, np.ones(len(new), np.uint32)])
        order = np.lexsort((low, high))
        high, low, counts = high[order], low[order], counts[order]
        is_first = np.concatenate([[True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])])
        self._counts = np.add.reduceat(counts, np.flatnonzero(is_first), dtype=np.uint32)
        self._high, self._low = high[is_first].data, low[is_first].data
        self._unsorted.clear()


class ItemOccurrences:
    """Counts how often each record has occurred so far in the item that is being read."""

    def __init__(self, record_counts: RecordCounts) -> None:
        self.record_counts = record_counts
        self._sorted: NDArray[np.uint32] | None = None
        self._unsorted: Counter[bytes] = Counter()

    def is_new(self, digest: str) -> bool:
        """Counts the record; returns whether it occurs more often in the item than in raw."""
        key = bytes.fromhex(digest)
        index, count = self.record_counts.find(key)
        if index >= 0:
            if self._sorted is None:
                self._sorted = np.zeros(len(self.record_counts), np.uint32)  # uses memory only where it is written
            self._sorted[index] += 1
            return int(self._sorted[index]) > count
        if not count:
            return True
        self._unsorted[key] += 1
        return self._unsorted[key] > count


class Sample:
    """A random sample of a source's records, for `max_rows`: ranks the records of some items, then selects the `size` lowest ranks.

    A rank depends only on seed and record: the sample of a file that is sorted by label has all labels, and the order of the
    records does not matter. The source is read twice: to rank its records, and to collect them.
    """

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
