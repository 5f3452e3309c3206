"""Rows of mixed lengths that are as full as those of best-fit decreasing, which puts equal lengths together.

Lengths correlate with tasks (a text and its topic, a question and its answer), so rows of one length are rows of one task. Here
each row is a sample of the remaining lengths: they are drawn by a low-discrepancy sequence until no more fit; then an example is
exchanged for one or two others that fill the row. Nothing is random: equal counts give equal rows. Measurements:
docs/decisions/0015-packing.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio x 2⁶⁴. Its multiples modulo 2⁶⁴ cover the range evenly, whatever their number."""
MAX_POSTPONED = 2
"""Most drawn lengths that do not fit and are postponed to the next row."""
MAX_FAILURES = 32
"""Most consecutive rows that cannot be filled; then the remaining lengths are not mixed."""
MAX_EXCHANGED_LENGTHS = 128
"""Most lengths whose pairs are tried: enough sums for any gap; all lengths would take a second with rows of 8,192 tokens."""
MAX_SUMS = 4
"""Most sums that are tried for a gap, the largest first: a sum may need examples of which too few remain."""
MAX_SHORTFALL = 4
"""Tokens of a row that may stay free after an exchange for one longer example."""


@dataclass(frozen=True)
class Pattern:
    """The lengths of a row, and the number of rows with these lengths."""

    lengths: tuple[int, ...]
    times: int

    def take_from(self, remaining: Counts) -> None:
        for length, count in Counter(self.lengths).items():
            remaining[length] -= count * self.times


def mixed_patterns(of_length: Counts, capacity: int, max_waste: float, max_times: int) -> Iterator[Pattern]:
    """Rows of mixed lengths, as long as they can be filled; the caller packs the rest.

    Args:
        of_length: how many examples there are of each length, 1 to `capacity`.
        capacity: tokens of a row.
        max_waste: free tokens that a row may have.
        max_times: most rows with the same lengths: a higher value is faster, and mixes less.
    """
    remaining = of_length.copy()
    tokens = np.arange(len(remaining))
    mean = float(remaining @ tokens) / max(int(remaining.sum()), 1)
    postponed: list[int] = []
    drawn = failures = 0
    while failures < MAX_FAILURES and (count := int(remaining.sum())):
        row = _Row(remaining, capacity, max_times)
        drawn, postponed = row.draw(count, drawn, postponed)
        row.complete(prefers_long=float(remaining @ tokens) >= mean * count)
        if row.room > max_waste:
            failures += 1
            continue
        failures = 0
        pattern = Pattern(tuple(row.used.elements()), row.times)
        pattern.take_from(remaining)
        yield pattern


class _Row:
    """A row that is being filled from the remaining examples."""

    def __init__(self, remaining: Counts, capacity: int, max_times: int) -> None:
        self.remaining = remaining
        self.capacity = capacity
        self.max_times = max_times
        self.room = capacity
        self.used: Counter[int] = Counter()

    @property
    def times(self) -> int:
        """How many such rows are possible."""
        return min([self.max_times, *(int(self.remaining[length]) // count for length, count in (+self.used).items())])

    def draw(self, count: int, drawn: int, postponed: list[int]) -> tuple[int, list[int]]:
        """Adds drawn lengths while they fit, starting with the postponed ones. Returns the number of lengths drawn so far, and the
        lengths postponed now."""
        ends = np.cumsum(self.remaining)
        mean = float(self.remaining @ np.arange(len(self.remaining))) / count
        steps = np.arange(drawn + 1, drawn + 5 + int(2 * self.capacity / mean), dtype=np.uint64)
        quantiles = ((steps * np.uint64(GOLDEN)) >> np.uint64(32)).astype(np.int64) * count >> 32
        considered = 0
        too_long: list[int] = []
        for length in [*postponed, *np.searchsorted(ends, quantiles, side="right").tolist()]:
            considered += 1
            if self.used[length] >= self.remaining[length]:
                continue
            if length > self.room:
                if len(too_long) == MAX_POSTPONED:
                    break
                too_long.append(length)
            else:
                self._add(length)
        return drawn + max(considered - len(postponed), 1), too_long

    def complete(self, prefers_long: bool) -> None:
        """Exchanges an example so that the row is full, or nearly.

        Args:
            prefers_long: for one longer example if possible, else for two. This keeps the mean length of the remaining examples.
        """
        if not self.room:
            return
        times = self.times
        exchanges = [self._by_longer, self._by_pair]
        best: tuple[int, int | None, list[int]] = (self.room, None, [])
        for exchange in exchanges if prefers_long else reversed(exchanges):
            best = min(best, exchange(times), key=lambda each: each[0])
            if best[0] == 0:
                break
        _, removed, added = best
        if removed is not None:
            self._add(removed, -1)
        for length in added:
            self._add(length)

    def _by_longer(self, times: int) -> tuple[int, int | None, list[int]]:
        """Exchanges an example for one that is longer by the room: (free tokens, removed length, added lengths)."""
        for shortfall in range(min(MAX_SHORTFALL, self.room)):
            difference = self.room - shortfall
            options = [
                (int(self.remaining[length + difference]), length)
                for length in self.used
                if length + difference < len(self.remaining) and self._has([length + difference], times, None)
            ]
            if options:
                _, length = max(options)
                return shortfall, length, [length + difference]
        return self.room, None, []

    def _by_pair(self, times: int) -> tuple[int, int | None, list[int]]:
        """Exchanges an example, or none, for one or two others that leave the least room."""
        best: tuple[int, int | None, list[int]] = (self.room, None, [])
        longest = self.room + max(self.used, default=0)
        lengths = np.flatnonzero(self.remaining[: longest + 1] >= times)
        if len(lengths) > MAX_EXCHANGED_LENGTHS:
            lengths = lengths[np.linspace(0, len(lengths) - 1, MAX_EXCHANGED_LENGTHS).astype(np.int64)]
        candidates: list[int] = lengths.tolist()
        single_bits = sum(1 << length for length in candidates)
        sum_bits = single_bits  # bit set of the lengths and the sums of two of them
        for length in candidates:
            sum_bits |= single_bits << length
        for removed in [*sorted(self.used, reverse=True), None]:
            room = self.room + (removed or 0)
            fitting = sum_bits & ((1 << (room + 1)) - 1)
            for _ in range(MAX_SUMS):
                shortfall = room - fitting.bit_length() + 1
                if not fitting or shortfall >= best[0]:
                    break
                if added := self._parts(room - shortfall, candidates, single_bits, times, removed):
                    best = (shortfall, removed, added)
                    break
                fitting ^= 1 << (room - shortfall)
            if best[0] == 0:
                break
        return best

    def _parts(self, total: int, candidates: list[int], single_bits: int, times: int, removed: int | None) -> list[int]:
        """A length, or the most frequent two, with this total; empty where they do not remain `times` over."""
        if single_bits >> total & 1 and self._has([total], times, removed):
            return [total]
        options: list[int] = []
        most = 0
        for length in candidates:
            other = total - length
            if other < length:
                break
            remaining = min(int(self.remaining[length]), int(self.remaining[other])) if single_bits >> other & 1 else 0
            if remaining > most and self._has([length, other], times, removed):
                options, most = [length, other], remaining
        return options

    def _has(self, added: list[int], times: int, removed: int | None) -> bool:
        """Do enough examples of these lengths remain for so many rows?"""
        for length in added:
            count = self.used[length] + added.count(length) - (length == removed)
            if self.remaining[length] < count * times:
                return False
        return True

    def _add(self, length: int, count: int = 1) -> None:
        self.used[length] += count
        self.room -= length * count
