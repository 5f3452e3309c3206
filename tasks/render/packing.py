"""Packing: examples side by side in rows of a fixed length, by best-fit decreasing, so that hardly a token is padding.

Best-fit decreasing: D. S. Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms",
SIAM J. Comput. 3 (1974): never more than 11/9 of the optimum plus one row, in practice within a percent.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Packs examples into rows.

    Args:
        lengths: tokens of each example, each at most `capacity`.
        capacity: tokens of a row.

    Returns:
        Rows of indices into `lengths`; each index stands once. Equal lengths keep their order, so that equal inputs give
        equal rows.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room left, row), sorted: the tightest that fits comes first
    for index in order:
        length = lengths[index]
        assert 0 < length <= capacity, f"example {index} has {length} tokens, a row {capacity}"
        place = bisect_left(open_rows, (length, -1))
        if place == len(open_rows):
            rows.append([index])
            room, row = capacity - length, len(rows) - 1
        else:
            room, row = open_rows.pop(place)
            rows[row].append(index)
            room -= length
        if room:
            insort(open_rows, (room, row))
    return rows
