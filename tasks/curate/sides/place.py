"""The split of linked rows, and which of them are cross-split duplicates. Pure.

A group of new rows takes the split of the earlier rows that it is linked with; without any, that of its first row. No earlier row
ever moves: a new row that would join two splits is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tasks.curate.dedup.known import GOLDEN, TEST, TRAIN, VALID

LEAST_ROWS = 10
"""With fewer rows in all, a split may stay empty: more rows are expected."""


@dataclass
class Assignment:
    """The splits of the new rows that are linked."""

    splits: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Row → split, and its cluster representative: the row whose split it took (itself, for the first of a group)."""
    cross_split: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Cross-split duplicate, to be dropped → two rows in different splits that it is linked with."""


def assign_splits(
    links: Iterable[tuple[int, int]], first_new: int, split_of: Callable[[int], int], pins: dict[int, int]
) -> Assignment:
    """Groups the new rows.

    Args:
        links: an earlier row and a new one, ascending; neither is golden nor benchmark.
        first_new: rows from here on are new.
        split_of: the split of an earlier row, or of a new one on its own.
        pins: new rows with a fixed split, → that split.
    """
    links = sorted(set(links))
    assignment = Assignment()
    # split, and the row that it was taken from: the first one, where none is earlier
    groups: dict[int, tuple[int, int]] = {}
    parents: dict[int, int] = {}
    neighbours: dict[int, dict[int, int]] = {row: {split: row} for row, split in pins.items()}
    for first, second in links:
        if first < first_new:
            neighbours.setdefault(second, {}).setdefault(split_of(first), first)
    for row, anchor_of in neighbours.items():
        if row in pins:
            groups[row] = pins[row], row
        elif len(anchor_of) > 1:
            first, second = sorted(anchor_of.values())[:2]
            assignment.cross_split[row] = (first, second)
        else:
            (groups[row],) = anchor_of.items()

    def root(row: int) -> int:
        parents.setdefault(row, row)
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for first, second in links:
        if first < first_new or first in assignment.cross_split or second in assignment.cross_split:
            continue
        one, other = sorted((root(first), root(second)))
        if one == other:
            continue
        if one in groups and other in groups and groups[one][0] != groups[other][0]:
            dropped = _row_to_drop(first, second, root, groups)
            if dropped not in pins:
                assignment.cross_split[dropped] = (first, second)
            continue
        parents[other] = one
        group = groups.pop(other, None)
        if one not in groups and group is not None:
            groups[one] = group
    for row in sorted({*parents, *neighbours} - assignment.cross_split.keys()):
        first = root(row)
        if first not in groups:
            groups[first] = split_of(row), row
        assignment.splits[row] = groups[first]
    return assignment


def fill_empty_splits(
    assignment: Assignment, rows_in: Counter[int], is_movable: Callable[[int], bool], rank: Callable[[int], int]
) -> None:
    """Moves whole groups to the test or training split where that would be empty; no group is divided.

    The hashes of their first rows may assign all of a few large groups to one split, with nothing to train on, or to test on.

    Args:
        assignment: of the new rows; changed.
        rows_in: split → rows, of all batches, with the new ones as assigned.
        is_movable: by a group's first row; a group that took the split of an earlier row is not.
        rank: of a group's first row: the order in which groups are moved.
    """
    total = sum(rows_in[split] for split in (TRAIN, VALID, TEST, GOLDEN))
    if total < LEAST_ROWS:
        return
    splits = assignment.splits
    sizes = Counter(anchor for _, anchor in splits.values())
    split_of = {anchor: splits[anchor][0] for anchor in sizes if anchor in splits and is_movable(anchor)}
    ranked = sorted(split_of, key=rank)

    def move(group: int, split: int) -> None:
        rows_in[split_of[group]] -= sizes[group]
        rows_in[split] += sizes[group]
        split_of[group] = split
        for row, (_, anchor) in splits.items():
            if anchor == group:
                splits[row] = split, anchor

    if not rows_in[TRAIN]:
        for group in ranked:
            leaves_test = split_of[group] != TEST or rows_in[TEST] + rows_in[GOLDEN] > sizes[group]
            if leaves_test and 2 * rows_in[TRAIN] < total:
                move(group, TRAIN)
    if not rows_in[TEST] + rows_in[GOLDEN]:
        fitting = [group for group in ranked if 2 * sizes[group] <= total and rows_in[split_of[group]] > 0]
        movable = [group for group in fitting if split_of[group] != TRAIN or rows_in[TRAIN] > sizes[group]]
        if movable:
            move(movable[0], TEST)


def _row_to_drop(first: int, second: int, root: Callable[[int], int], groups: dict[int, tuple[int, int]]) -> int:
    """Of two new rows whose groups are in two splits, the one to drop: a held-out row is worth more."""
    for split in (TRAIN, VALID):
        for row in (second, first):
            if groups[root(row)][0] == split:
                return row
    return second
