"""Best-fit decreasing packing: the number of rows, and the lengths in each row, from the count of each length.

D. S. Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms", SIAM J. Comput. 3 (1974):
never more than 11/9 of the optimum plus one row, in practice within a percent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Share:
    """Examples of one length in rows: `per_row` in each, the rest in the last."""

    rows: Numbers
    per_row: int
    count: int

    @property
    def in_last(self) -> int:
        return self.count - self.per_row * (len(self.rows) - 1)

    def add_to(self, counts: Numbers) -> None:
        counts[self.rows[:-1]] += self.per_row
        counts[self.rows[-1]] += self.in_last


Shares = dict[int, list[Share]]
"""Length → the rows of its examples."""


def best_fit(of_length: npt.NDArray[np.integer[Any]], capacity: int, first: int = 0) -> tuple[Shares, int]:
    """Assigns examples to rows: the longest first, each to the fullest row that has room for it.

    Args:
        of_length: how many examples there are of each length.
        capacity: tokens of a row.
        first: the number of the first row.

    Returns:
        The shares, the longest first, and how many rows they take.
    """
    rows = _Rows(capacity, first)
    lengths = np.flatnonzero(of_length)[::-1].tolist()
    return {length: list(rows.fill(length, int(of_length[length]))) for length in lengths}, rows.count - first


class _Rows:
    """The rows so far, by their free room."""

    def __init__(self, capacity: int, first: int) -> None:
        self.capacity = capacity
        self.count = first
        self._rows_by_room: defaultdict[int, list[Numbers]] = defaultdict(list)
        self._rooms = 0
        """Bit set of the rooms that occur: the tightest fitting room is one operation."""

    def fill(self, length: int, count: int) -> Iterator[Share]:
        """Assigns `count` examples of a length that was not assigned before."""
        while count:
            share = self._take(length, count)
            yield share
            count -= share.count

    def _take(self, length: int, max_count: int) -> Share:
        """The rows of at most so many examples. A row that took one is the tightest for the next, as long as it has room."""
        fitting = self._rooms >> length
        room = length + (fitting & -fitting).bit_length() - 1 if fitting else self.capacity
        per_row = room // length
        needed = -(-max_count // per_row)
        if fitting:
            rows = np.sort(np.concatenate(self._rows_by_room.pop(room)))
            self._rooms ^= 1 << room
            self._add(rows[needed:], room)
            rows = rows[:needed]
        else:
            rows = np.arange(self.count, self.count + needed, dtype=np.int32)
            self.count += needed
        share = Share(rows, per_row, min(max_count, per_row * len(rows)))
        self._add(rows[:-1], room - per_row * length)
        self._add(rows[-1:], room - share.in_last * length)
        return share

    def _add(self, rows: Numbers, room: int) -> None:
        if room and len(rows):
            self._rows_by_room[room].append(rows)
            self._rooms |= 1 << room
