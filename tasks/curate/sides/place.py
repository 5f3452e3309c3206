"""Rows that belong together, on one side: which side, and which rows cannot be kept. Pure.

A group of new rows takes the side of the earlier rows that it is linked with; without any, that of its first row. No earlier row
ever moves: a new row that would join two sides is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tasks.curate.dedup.known import GOLDEN, TEST, TRAIN, VALID

LEAST_ROWS = 10
"""With fewer, a side may be empty: more rows are still to come."""


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


def fill_empty_sides(
    placed: Placed, rows_on: Counter[int], is_free: Callable[[int], bool], rank: Callable[[int], int]
) -> None:
    """Puts whole groups on the test or training side where that would be left without a row; no group is parted.

    A few large groups may all come to one side by the hashes of their first rows, and nothing could be trained, or tested.

    Args:
        placed: of the new rows; changed.
        rows_on: side → rows, of all, with the new ones as they are placed.
        is_free: may the group that a row leads be moved? One that took the side of an earlier row may not.
        rank: of a group's first row: the order in which groups are moved.
    """
    total = sum(rows_on[side] for side in (TRAIN, VALID, TEST, GOLDEN))
    if total < LEAST_ROWS:
        return
    sizes = Counter(anchor for _, anchor in placed.sides.values())
    side_of = {anchor: placed.sides[anchor][0] for anchor in sizes if anchor in placed.sides and is_free(anchor)}
    ranked = sorted(side_of, key=rank)

    def move(group: int, side: int) -> None:
        rows_on[side_of[group]] -= sizes[group]
        rows_on[side] += sizes[group]
        side_of[group] = side
        for row, (_, anchor) in placed.sides.items():
            if anchor == group:
                placed.sides[row] = side, anchor

    if not rows_on[TRAIN]:
        for group in ranked:
            leaves_test = side_of[group] != TEST or rows_on[TEST] + rows_on[GOLDEN] > sizes[group]
            if leaves_test and 2 * rows_on[TRAIN] < total:
                move(group, TRAIN)
    if not rows_on[TEST] + rows_on[GOLDEN]:
        fitting = [group for group in ranked if 2 * sizes[group] <= total and rows_on[side_of[group]] > 0]
        keeps = [group for group in fitting if side_of[group] != TRAIN or rows_on[TRAIN] > sizes[group]]
        if keeps:
            move(keeps[0], TEST)


def _loser(first: int, second: int, root: Callable[[int], int], groups: dict[int, _Group]) -> int:
    """Of two new rows whose groups stand on two sides, the one that can be spared: what is held out is worth more."""
    for side in (TRAIN, VALID):
        for row in (second, first):
            if groups[root(row)].side == side:
                return row
    return second
