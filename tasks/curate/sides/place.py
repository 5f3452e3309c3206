"""Rows that belong together, on one side: which side, and which rows cannot be kept. Pure.

A group of new rows takes the side of the earlier rows that it is linked with; without any, that of its first row. No earlier row
ever moves: a new row that would join two sides is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tasks.curate.dedup.known import TRAIN, VALID


@dataclass
class Placed:
    """What becomes of the new rows that are linked."""

    sides: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Row → side, and the row whose side it took (itself, where it leads its group)."""
    bridges: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Row that is dropped → rows of two sides that it is linked with."""


@dataclass
class _Group:
    side: int
    anchor: int
    """The earlier row that it took its side from; the first row, where there is none."""


def place(
    links: Iterable[tuple[int, int]], first_new: int, side_of: Callable[[int], int], anchors: dict[int, int]
) -> Placed:
    """Groups the new rows.

    Args:
        links: an earlier row and a new one, ascending; neither protected.
        first_new: rows from here on are new.
        side_of: of an earlier row, or of a new one by itself.
        anchors: new rows whose side is given, → that side.
    """
    links = sorted(set(links))
    placed = Placed()
    groups: dict[int, _Group] = {}
    parents: dict[int, int] = {}
    neighbours: dict[int, dict[int, int]] = {row: {side: row} for row, side in anchors.items()}
    for first, second in links:
        if first < first_new:
            neighbours.setdefault(second, {}).setdefault(side_of(first), first)
    for row, anchor_of in neighbours.items():
        if row in anchors:
            groups[row] = _Group(anchors[row], row)
        elif len(anchor_of) > 1:
            first, second = sorted(anchor_of.values())[:2]
            placed.bridges[row] = (first, second)
        else:
            ((side, anchor),) = anchor_of.items()
            groups[row] = _Group(side, anchor)

    def root(row: int) -> int:
        parents.setdefault(row, row)
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for first, second in links:
        if first < first_new or first in placed.bridges or second in placed.bridges:
            continue
        one, other = sorted((root(first), root(second)))
        if one == other:
            continue
        if one in groups and other in groups and groups[one].side != groups[other].side:
            loser = _loser(first, second, root, groups)
            if loser not in anchors:
                placed.bridges[loser] = (first, second)
            continue
        parents[other] = one
        group = groups.pop(other, None)
        if one not in groups and group is not None:
            groups[one] = group
    for row in sorted({*parents, *neighbours} - placed.bridges.keys()):
        first = root(row)
        if first not in groups:
            groups[first] = _Group(side_of(row), row)
        placed.sides[row] = (groups[first].side, groups[first].anchor)
    return placed


def _loser(first: int, second: int, root: Callable[[int], int], groups: dict[int, _Group]) -> int:
    """Of two new rows whose groups stand on two sides, the one that can be spared: what is held out is worth more."""
    for side in (TRAIN, VALID):
        for row in (second, first):
            if groups[root(row)].side == side:
                return row
    return second
