"""Best-fit decreasing: the rows that it needs, and which lengths each row takes, from the count of each length alone.

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


Shares = dict[int, list[Share]]
"""Length → where its examples are laid."""


def best_fit(of_length: npt.NDArray[np.integer[Any]], capacity: int, first: int = 0) -> tuple[Shares, int]:
    """Lays so many examples of each length into rows: the longest first, each into the fullest row that has room for it.

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
    """The rows so far, by the room that they have left."""

    def __init__(self, capacity: int, first: int) -> None:
        self.capacity = capacity
        self.count = first
        self._open: defaultdict[int, list[Numbers]] = defaultdict(list)
        self._rooms = 0
        """As bits, which rooms there are: the tightest that fits is found in a step."""

    def fill(self, length: int, count: int) -> Iterator[Share]:
        """Makes room for so many examples of a length, none of which was asked for before."""
        while count:
            share = self._take(length, count)
            yield share
            count -= share.count

    def _take(self, length: int, most: int) -> Share:
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
        share = Share(rows, each, min(most, each * len(rows)))
        self._add(rows[:-1], room - each * length)
        self._add(rows[-1:], room - share.in_last * length)
        return share

    def _add(self, rows: Numbers, room: int) -> None:
        if room and len(rows):
            self._open[room].append(rows)
            self._rooms |= 1 << room
