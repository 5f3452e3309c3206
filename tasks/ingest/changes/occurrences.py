"""How often each record is held, in 20 bytes a record: a source may hold ten million.

Digests stand sorted, as two numbers each; those of small batches that come meanwhile stand in a dictionary until they are many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16
MOST_LOOSE = 100_000


class Digests:
    """Digests in order, 16 bytes each; they come and go as 32 hex characters."""

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


class HeldRecords:
    """How often a source holds each record."""

    def __init__(self) -> None:
        self._high = self._low = np.zeros(0, np.uint64).data
        self._times: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._loose: Counter[bytes] = Counter()

    def __len__(self) -> int:
        """How many different records, of those that stand sorted."""
        return len(self._high)

    def add(self, more: Digests) -> None:
        if len(self._loose) + len(more) <= max(MOST_LOOSE, len(self) // 8):  # else each small batch sorts all anew
            content = bytes(more.content)
            self._loose.update(content[at : at + DIGEST_BYTES] for at in range(0, len(content), DIGEST_BYTES))
        else:
            self._sort_in(more)

    def place_of(self, digest: bytes) -> int:
        """The record's place among those that stand sorted; -1 where it is not one of them."""
        high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
        place = bisect_left(self._high, high)
        while place < len(self._high) and self._high[place] == high:
            if self._low[place] == low:
                return place
            place += 1
        return -1

    def times_at(self, place: int) -> int:
        return int(self._times[place])

    def loose_times(self, digest: bytes) -> int:
        """How often the record stands in batches that are not sorted in yet."""
        return self._loose.get(digest, 0)

    def _sort_in(self, more: Digests) -> None:
        loose = np.frombuffer(b"".join(self._loose), ">u8").reshape(-1, 2)
        new = np.frombuffer(more.content, ">u8").reshape(-1, 2)
        high, low = (
            np.concatenate([before, loose[:, side], new[:, side]], dtype=np.uint64)
            for side, before in enumerate((self._high, self._low))
        )
        more_times = np.fromiter(self._loose.values(), np.uint32, len(loose))
        times = np.concatenate([self._times, more_times, np.ones(len(new), np.uint32)])
        order = np.lexsort((low, high))
        high, low, times = high[order], low[order], times[order]
        is_first = np.concatenate([[True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])])
        self._times = np.add.reduceat(times, np.flatnonzero(is_first), dtype=np.uint32)
        self._high, self._low = high[is_first].data, low[is_first].data
        self._loose.clear()


class Reading:
    """Counts how often each record stood so far in the item that is being read."""

    def __init__(self, held: HeldRecords) -> None:
        self.held = held
        self._sorted: NDArray[np.uint32] | None = None
        self._loose: Counter[bytes] = Counter()

    def is_new(self, digest: str) -> bool:
        """Counts the record; does it stand in the item more often than it is held?"""
        key = bytes.fromhex(digest)
        times = self.held.loose_times(key)
        place = self.held.place_of(key)
        if place >= 0:
            times += self.held.times_at(place)
            if self._sorted is None:
                self._sorted = np.zeros(len(self.held), np.uint32)  # takes memory only where it is written
            self._sorted[place] += 1
            return int(self._sorted[place]) > times
        if not times:
            return True
        self._loose[key] += 1
        return self._loose[key] > times
