"""Rows of mixed lengths that are as full as those of best-fit decreasing, which puts like lengths together.

Lengths go with tasks (a text and its topic, a question and its answer), so rows of one length are rows of one task. Here each row
is a sample of the lengths that are left: they are drawn by a sequence that covers their distribution evenly, until no more fit;
then an example is exchanged for one or two others that leave no room. Nothing is random: equal counts give equal rows. What was
measured: docs/decisions/0015-packing.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio x 2⁶⁴. Its multiples, modulo 2⁶⁴, cover the range evenly, however many of them there are."""
MOST_LATE = 2
"""Drawn lengths that do not fit any more, and begin the next row."""
MOST_FAILURES = 32
"""Rows in turn that cannot be filled: what is left does not mix."""
EXCHANGED = 128
"""Lengths of which pairs are tried: enough sums for any gap; all of them would take a second with rows of 8,192 tokens."""
MOST_SUMS = 4
"""Sums that are tried for a gap, the largest first: one may need examples of which too few are left."""
MOST_SHORT = 4
"""Tokens that may be missing after an exchange for one longer example."""


@dataclass(frozen=True)
class Pattern:
    """The lengths of a row, and how many rows have them."""

    lengths: tuple[int, ...]
    times: int

    def take_from(self, left: Counts) -> None:
        for length, count in Counter(self.lengths).items():
            left[length] -= count * self.times


def mixed_patterns(of_length: Counts, capacity: int, most_waste: float, most_times: int) -> Iterator[Pattern]:
    """Rows of mixed lengths, while they can be filled; what is left then is the caller's.

    Args:
        of_length: how many examples there are of each length, 1 to `capacity`.
        capacity: tokens of a row.
        most_waste: tokens that may be missing in a row.
        most_times: rows that may have the same lengths: more are faster, and less mixed.
    """
    left = of_length.copy()
    tokens = np.arange(len(left))
    mean = float(left @ tokens) / max(int(left.sum()), 1)
    late: list[int] = []
    drawn = failures = 0
    while failures < MOST_FAILURES and (count := int(left.sum())):
        row = _Row(left, capacity, most_times)
        drawn, late = row.draw(count, drawn, late)
        row.complete(prefers_long=float(left @ tokens) >= mean * count)
        if row.room > most_waste:
            failures += 1
            continue
        failures = 0
        pattern = Pattern(tuple(row.used.elements()), row.times)
        pattern.take_from(left)
        yield pattern


class _Row:
    """A row that is being filled from what is left."""

    def __init__(self, left: Counts, capacity: int, most_times: int) -> None:
        self.left = left
        self.capacity = capacity
        self.most_times = most_times
        self.room = capacity
        self.used: Counter[int] = Counter()

    @property
    def times(self) -> int:
        """How many such rows there can be."""
        return min([self.most_times, *(int(self.left[length]) // count for length, count in (+self.used).items())])

    def draw(self, count: int, drawn: int, late: list[int]) -> tuple[int, list[int]]:
        """Takes lengths as they are drawn while they fit, those that were late before first.

        Returns:
            How many were drawn in all so far, and those that are late now.
        """
        ends = np.cumsum(self.left)
        mean = float(self.left @ np.arange(len(self.left))) / count
        steps = np.arange(drawn + 1, drawn + 5 + int(2 * self.capacity / mean), dtype=np.uint64)
        quantiles = ((steps * np.uint64(GOLDEN)) >> np.uint64(32)).astype(np.int64) * count >> 32
        seen = 0
        too_long: list[int] = []
        for length in [*late, *np.searchsorted(ends, quantiles, side="right").tolist()]:
            seen += 1
            if self.used[length] >= self.left[length]:
                continue
            if length > self.room:
                if len(too_long) == MOST_LATE:
                    break
                too_long.append(length)
            else:
                self._add(length)
        return drawn + max(seen - len(late), 1), too_long

    def complete(self, prefers_long: bool) -> None:
        """Exchanges an example, so that no room is left, or hardly any.

        Args:
            prefers_long: by one longer example, if it can be; else by two. What is left then keeps its mean length.
        """
        if not self.room:
            return
        times = self.times
        ways = [self._by_longer, self._by_pair]
        best: tuple[int, int | None, list[int]] = (self.room, None, [])
        for find in ways if prefers_long else reversed(ways):
            best = min(best, find(times), key=lambda each: each[0])
            if best[0] == 0:
                break
        _, removed, added = best
        if removed is not None:
            self._add(removed, -1)
        for length in added:
            self._add(length)

    def _by_longer(self, times: int) -> tuple[int, int | None, list[int]]:
        """An example for one that is longer by the room: tokens that are missing then, the length that goes, those that come."""
        for short in range(min(MOST_SHORT, self.room)):
            more = self.room - short
            found = [
                (int(self.left[length + more]), length)
                for length in self.used
                if length + more < len(self.left) and self._has([length + more], times, None)
            ]
            if found:
                _, length = max(found)
                return short, length, [length + more]
        return self.room, None, []

    def _by_pair(self, times: int) -> tuple[int, int | None, list[int]]:
        """An example, or none, for one or two others that leave the least room."""
        best: tuple[int, int | None, list[int]] = (self.room, None, [])
        longest = self.room + max(self.used, default=0)
        lengths = np.flatnonzero(self.left[: longest + 1] >= times)
        if len(lengths) > EXCHANGED:
            lengths = lengths[np.linspace(0, len(lengths) - 1, EXCHANGED).astype(np.int64)]
        candidates: list[int] = lengths.tolist()
        single = sum(1 << length for length in candidates)
        sums = single  # as bits: which lengths, and sums of two of them, there are
        for length in candidates:
            sums |= single << length
        for removed in [*sorted(self.used, reverse=True), None]:
            room = self.room + (removed or 0)
            fitting = sums & ((1 << (room + 1)) - 1)
            for _ in range(MOST_SUMS):
                short = room - fitting.bit_length() + 1
                if not fitting or short >= best[0]:
                    break
                if added := self._parts(room - short, candidates, single, times, removed):
                    best = (short, removed, added)
                    break
                fitting ^= 1 << (room - short)
            if best[0] == 0:
                break
        return best

    def _parts(self, total: int, candidates: list[int], single: int, times: int, removed: int | None) -> list[int]:
        """A length, or two of which most are left, of so many tokens in all; none where they are not left `times` over."""
        if single >> total & 1 and self._has([total], times, removed):
            return [total]
        found: list[int] = []
        most = 0
        for length in candidates:
            other = total - length
            if other < length:
                break
            left = min(int(self.left[length]), int(self.left[other])) if single >> other & 1 else 0
            if left > most and self._has([length, other], times, removed):
                found, most = [length, other], left
        return found

    def _has(self, added: list[int], times: int, removed: int | None) -> bool:
        """Is enough left of these lengths for so many rows?"""
        for length in added:
            count = self.used[length] + added.count(length) - (length == removed)
            if self.left[length] < count * times:
                return False
        return True

    def _add(self, length: int, count: int = 1) -> None:
        self.used[length] += count
        self.room -= length * count
