"""Packing: examples side by side in rows of a fixed length, by best-fit decreasing, so that hardly a token is padding.

Best-fit decreasing: D. S. Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms",
SIAM J. Comput. 3 (1974): never more than 11/9 of the optimum plus one row, in practice within a percent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
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


def pack(lengths: Numbers, capacity: int) -> Packed:
    """Packs examples into rows: the longest first, each into the fullest row that has room for it, of equal ones the first.

    Equal lengths keep their order, so that equal inputs give equal rows. Examples of one length are placed together, so ten
    million take seconds, and twelve bytes each.

    Args:
        lengths: tokens of each example, each at most `capacity`.
        capacity: tokens of a row.
    """
    assert not len(lengths) or 0 < lengths.min() <= lengths.max() <= capacity, f"examples of 1 to {capacity} tokens fit"
    row_of = np.empty(len(lengths), np.int32)
    rows = _Rows(capacity)
    for length, examples in _longest_first(lengths):
        placed = 0
        while placed < len(examples):
            taken, each = rows.take(length, len(examples) - placed)
            found = np.repeat(taken, each)[: len(examples) - placed]
            row_of[examples[placed : placed + len(found)]] = found
            placed += len(found)
    counts = _count(row_of, rows.count)
    return Packed(_row_by_row(lengths, row_of, counts), counts)


class _Rows:
    """The rows so far, by the room that they have left."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._open: defaultdict[int, list[Numbers]] = defaultdict(list)
        self._rooms = 0
        """As bits, which rooms there are: the tightest that fits is found in a step."""

    def take(self, length: int, most: int) -> tuple[Numbers, int]:
        """Rows for at most so many examples of a length, and how many go into each but the last.

        A row that took one is the tightest for the next, until it has no room for another.
        """
        fitting = self._rooms >> length
        room = length + (fitting & -fitting).bit_length() - 1 if fitting else self.capacity
        each = room // length
        needed = -(-most // each)
        if fitting:
            rows = np.sort(np.concatenate(self._open.pop(room)))
            self._rooms ^= 1 << room
            rows, left = rows[:needed], rows[needed:]
            self._add(left, room)
        else:
            rows = np.arange(self.count, self.count + needed, dtype=np.int32)
            self.count += needed
        in_last = min(each, most - each * (len(rows) - 1))
        self._add(rows[:-1], room - each * length)
        self._add(rows[-1:], room - in_last * length)
        return rows, each

    def _add(self, rows: Numbers, room: int) -> None:
        if room and len(rows):
            self._open[room].append(rows)
            self._rooms |= 1 << room


def _longest_first(lengths: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Each length, longest first, and the examples that have it, in order: found in a few passes over all."""
    waiting: list[int] = []
    counts = _count(lengths, int(lengths.max()) + 1 if len(lengths) else 0)
    found = 0
    for length in np.flatnonzero(counts)[::-1].tolist():
        waiting.append(length)
        found += int(counts[length])
        if found * _PASSES >= len(lengths):
            yield from _of_lengths(lengths, waiting)
            waiting, found = [], 0
    if waiting:
        yield from _of_lengths(lengths, waiting)


def _of_lengths(lengths: Numbers, wanted: list[int]) -> Iterator[tuple[int, Numbers]]:
    """As above, of these lengths, which are all between the longest and the shortest of them."""
    examples = np.flatnonzero((lengths <= wanted[0]) & (lengths >= wanted[-1])).astype(np.int32)
    examples = examples[np.argsort(-lengths[examples], kind="stable")]
    edges = np.searchsorted(-lengths[examples], [-length for length in wanted])
    return zip(wanted, np.split(examples, edges[1:]), strict=True)


def _count(values: Numbers, most: int) -> Numbers:
    """How often each value below `most` stands there; np.bincount would first copy them all as int64."""
    counts = np.zeros(most, np.int32)
    for first in range(0, len(values), _AT_ONCE):
        counts += np.bincount(values[first : first + _AT_ONCE], minlength=most).astype(np.int32)
    return counts


def _row_by_row(lengths: Numbers, row_of: Numbers, counts: Numbers) -> Numbers:
    order = np.empty(len(row_of), np.int32)
    free = np.cumsum(counts, dtype=np.int32) - counts
    for _, examples in _longest_first(lengths):
        rows = row_of[examples]  # those of one row lie side by side
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        sizes = np.diff(starts, append=len(rows))
        order[free[rows] + np.arange(len(rows), dtype=np.int32) - np.repeat(starts.astype(np.int32), sizes)] = examples
        free[rows[starts]] += sizes.astype(np.int32)
    return order
