"""Packing: examples side by side in rows of a fixed length, by best-fit decreasing, so that hardly a token is padding.

Best-fit decreasing: D. S. Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms",
SIAM J. Comput. 3 (1974): never more than 11/9 of the optimum plus one row, in practice within a percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush


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
    # open rows by the room they have left, and as bits which rooms there are: the tightest that fits is found in a step, and a
    # million examples take seconds
    open_rows: dict[int, list[int]] = {}
    rooms = 0
    for index in order:
        length = lengths[index]
        assert 0 < length <= capacity, f"example {index} has {length} tokens, a row {capacity}"
        fitting = rooms >> length
        if not fitting:
            rows.append([index])
            room, row = capacity - length, len(rows) - 1
        else:
            found = length + (fitting & -fitting).bit_length() - 1
            row = heappop(open_rows[found])
            if not open_rows[found]:
                rooms ^= 1 << found
            rows[row].append(index)
            room = found - length
        if room:
            if not open_rows.setdefault(room, []):
                rooms |= 1 << room
            heappush(open_rows[room], row)
    return rows
