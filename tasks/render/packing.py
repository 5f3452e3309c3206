"""Packing: examples side by side in rows of a fixed length, by best-fit decreasing, so that hardly a token is padding.

Best-fit decreasing: D. S. Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms",
SIAM J. Comput. 3 (1974): never more than 11/9 of the optimum plus one row, in practice within a percent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
Lengths = npt.NDArray[np.integer[Any]]
_PASSES = 64
_AT_ONCE = 2**18


@dataclass(frozen=True)
class Packed:
    order: Numbers
    """The examples row by row, each row's in the order in which they came into it, longest first."""
    counts: Numbers
    """How many examples each row has."""

    @property
    def rows(self) -> list[list[int]]:
        """The examples of each row."""
        return [row.tolist() for row in np.split(self.order, np.cumsum(self.counts)[:-1])] if len(self.counts) else []


def pack(lengths: Lengths, capacity: int) -> Packed:
    """Packs examples into rows: the longest first, each into the fullest row that has room for it, of equal ones the first.

    Equal lengths keep their order, so that equal inputs give equal rows. Where examples go follows from how many there are of each
    length, so ten million take seconds, and four bytes each beside `lengths`, and at most four more.

    Args:
        lengths: tokens of each example, each at most `capacity`.
        capacity: tokens of a row.
    """
    assert not len(lengths) or 0 < lengths.min() <= lengths.max() <= capacity, f"examples of 1 to {capacity} tokens fit"
    of_length = _count(lengths)
    rows = _Rows(capacity)
    shares = {
        length: list(rows.fill(length, int(of_length[length]))) for length in np.flatnonzero(of_length)[::-1].tolist()
    }
    counts = np.zeros(rows.count, np.int32)
    for of_rows in shares.values():
        for share in of_rows:
            share.add_to(counts)
    order = np.empty(len(lengths), np.int32)
    free = np.cumsum(counts, dtype=np.int32) - counts
    for length, examples in _longest_first(lengths, of_length):
        first = 0
        for share in shares.pop(length):
            last = first + share.count
            for start in range(first, last, _AT_ONCE):
                some = examples[start : min(start + _AT_ONCE, last)]
                places = np.arange(start - first, start - first + len(some), dtype=np.int32)
                order[free[share.rows[places // share.each]] + places % share.each] = some
            share.add_to(free)
            first = last
    return Packed(order, counts)


@dataclass(frozen=True)
class _Share:
    """Examples of one length, laid into rows: so many into each, what is left of them into the last."""

    rows: Numbers
    each: int
    count: int

    @property
    def in_last(self) -> int:
        return self.count - self.each * (len(self.rows) - 1)

    def add_to(self, counts: Numbers) -> None:
        counts[self.rows[:-1]] += self.each
        counts[self.rows[-1]] += self.in_last


class _Rows:
    """The rows so far, by the room that they have left."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._open: defaultdict[int, list[Numbers]] = defaultdict(list)
        self._rooms = 0
        """As bits, which rooms there are: the tightest that fits is found in a step."""

    def fill(self, length: int, count: int) -> Iterator[_Share]:
        """Makes room for so many examples of a length, none of which was asked for before."""
        while count:
            share = self._take(length, count)
            yield share
            count -= share.count

    def _take(self, length: int, most: int) -> _Share:
        """The rows of at most so many examples: a row that took one is the tightest for the next, as long as it has room."""
        fitting = self._rooms >> length
        room = length + (fitting & -fitting).bit_length() - 1 if fitting else self.capacity
        each = room // length
        needed = -(-most // each)
        if fitting:
            rows = np.sort(np.concatenate(self._open.pop(room)))
            self._rooms ^= 1 << room
            self._add(rows[needed:], room)
            rows = rows[:needed]
        else:
            rows = np.arange(self.count, self.count + needed, dtype=np.int32)
            self.count += needed
        share = _Share(rows, each, min(most, each * len(rows)))
        self._add(rows[:-1], room - each * length)
        self._add(rows[-1:], room - share.in_last * length)
        return share

    def _add(self, rows: Numbers, room: int) -> None:
        if room and len(rows):
            self._open[room].append(rows)
            self._rooms |= 1 << room


def _longest_first(lengths: Lengths, of_length: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Each length, longest first, and the examples that have it, in order: found in a few passes over all."""
    waiting: list[int] = []
    found = 0
    for length in np.flatnonzero(of_length)[::-1].tolist():
        waiting.append(length)
        found += int(of_length[length])
        if found * _PASSES >= len(lengths):
            yield from _of_lengths(lengths, waiting)
            waiting, found = [], 0
    if waiting:
        yield from _of_lengths(lengths, waiting)


def _of_lengths(lengths: Lengths, wanted: list[int]) -> Iterator[tuple[int, Numbers]]:
    """As above, of these lengths, which are all between the longest and the shortest of them."""
    found = []
    for first in range(0, len(lengths), _AT_ONCE):
        some = lengths[first : first + _AT_ONCE]
        found.append((first + np.flatnonzero((some <= wanted[0]) & (some >= wanted[-1]))).astype(np.int32))
    examples = np.concatenate(found)
    if len(wanted) == 1:
        return iter([(wanted[0], examples)])
    shorter = wanted[0] - lengths[examples].astype(np.int32)
    sort = np.argsort(shorter, kind="stable")
    edges = np.searchsorted(shorter[sort], [wanted[0] - length for length in wanted])
    return zip(wanted, np.split(examples[sort], edges[1:]), strict=True)


def _count(lengths: Lengths) -> Numbers:
    """How many there are of each length; np.bincount would first copy them all as int64."""
    counts = np.zeros(int(lengths.max()) + 1 if len(lengths) else 0, np.int32)
    for first in range(0, len(lengths), _AT_ONCE):
        counts += np.bincount(lengths[first : first + _AT_ONCE], minlength=len(counts)).astype(np.int32)
    return counts
