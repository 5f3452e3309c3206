"""Fingerprints that link rows, and the rows that hold them. Pure; whether two rows share text, their texts prove (shared_text.py).

Text that most rows of a source hold is the template of that source, and text that very many rows hold is boilerplate: neither
links rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.curate.dedup.index import (
    MOST_ROWS,
    Entries,
    are_among,
    entries_of,
    hashes_of,
    is_first,
    rows_of,
    sorted_once,
)
from tasks.curate.dedup.known import PROTECTED, TRAIN, Known
from tasks.curate.dedup.sketch_file import Indices, Sketch
from tasks.curate.dedup.tokens import Hashes

TEMPLATE_SHARE = 0.75
"""A fingerprint that more than this share of a source's rows hold is part of the source's template, if LEAST_ROWS hold it."""
LONG_FACTOR = 5
"""A long passage may stand in so many times as many rows as a short one before it is boilerplate."""
LARGE_SHARE = 0.4
"""What more of all rows hold is a fixed part of their prompts, and no passage ..."""
LEAST_ROWS = 8
"""... if at least so many do."""
COMMON_SHARE = 0.05
"""Boilerplate of more of all rows is a template, however long it is."""
MOST_COUNTED = 20_000
"""Among more rows, those that hold boilerplate are not counted."""

Pairs = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    pairs: Pairs
    """(pairs, 2): an earlier row and a later one that share a fingerprint."""
    is_rare: Marks
    """(pairs,): few rows hold it, so that a run need not be long to count."""

    def part(self, start: int, size: int) -> Candidates:
        return Candidates(self.pairs[start : start + size], self.is_rare[start : start + size])

    def chosen(self, are_chosen: Marks) -> Candidates:
        return Candidates(self.pairs[are_chosen], self.is_rare[are_chosen])

    def with_more(self, pairs: Pairs) -> Candidates:
        """With pairs whose run many rows hold."""
        is_rare = np.concatenate([self.is_rare, np.zeros(len(pairs), np.bool_)])
        return Candidates(np.concatenate([self.pairs, pairs]), is_rare)


@dataclass(frozen=True)
class FixedParts:
    """Fingerprints of what many rows have in common, ascending: a run that holds one of them does not link two rows."""

    prints: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    templates: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """Those of them that are no passage's, however long the run is."""
    with_golden: FixedParts | None = None
    """Of a pair with a golden or benchmark row, where it is more: such a pair costs a training row."""

    def of_pairs(self, are_guarded: bool) -> FixedParts:
        return self.with_golden or self if are_guarded else self

    @property
    def is_empty(self) -> bool:
        return not len(self.of_pairs(True).prints)


def candidates(known: Known, first_new: int, sketch: Sketch, common_rows: int, common_share: float) -> Groups:
    """The fingerprints that link new rows with each other and with earlier ones, and the rows that hold them.

    Args:
        first_new: the number of the first new row; those before are in the index.
        sketch: of the new rows.
        common_rows, common_share: as in CurateSettings.
    """
    total = int(known.is_somewhere(np.arange(len(known))).sum())
    most = max(LONG_FACTOR * common_rows, int(common_share * total))
    entries, boilerplate, common = _of_interest(known, first_new, sketch, most, total)
    prints = hashes_of(entries)
    starts = np.flatnonzero(is_first(prints))
    sizes = np.diff(np.concatenate([starts, [len(prints)]]))
    numbers = np.repeat(np.arange(len(starts)), sizes)
    rows = rows_of(entries)
    boilerplate = np.concatenate([boilerplate, rows[(sizes > most)[numbers] & (rows >= first_new)]])
    everything = np.concatenate([entries, common])
    least = min(int(TEMPLATE_SHARE * total), max(most, int(COMMON_SHARE * total)))
    large, template = int(LARGE_SHARE * total), int(TEMPLATE_SHARE * total)

    def held_by(prints: int, templates: int) -> tuple[Hashes, Hashes]:
        return _of_many(everything, max(LEAST_ROWS, prints + 1)), _of_many(everything, max(LEAST_ROWS, templates + 1))

    fixed = FixedParts(*held_by(large, template), with_golden=FixedParts(*held_by(min(large, least), least)))
    groups = Groups(known, first_new, rows, numbers, sizes, common_rows, most, np.unique(boilerplate), fixed)
    groups.keep((sizes > 1) & (sizes <= most) & ~groups.are_templates())
    return groups


class Groups:
    """Rows by the fingerprint that they hold, ascending."""

    def __init__(
        self,
        known: Known,
        first_new: int,
        rows: Indices,
        numbers: Indices,
        sizes: Indices,
        common_rows: int,
        most: int,
        boilerplate: Indices,
        fixed: FixedParts,
    ) -> None:
        self._known = known
        self._first_new = first_new
        self._rows = rows
        self._numbers = numbers
        self._is_rare = sizes <= common_rows
        self._is_small = sizes <= LONG_FACTOR * common_rows
        self.most = most
        """A run that more rows hold links none."""
        self.boilerplate = boilerplate
        """New rows that hold such a run: what follows it may be shared, and in no fingerprint of its own."""
        self.fixed = fixed
        """What a large share of all rows hold."""

    def keep(self, is_kept: Marks) -> None:
        """Leaves out the other groups.

        Args:
            is_kept: (groups,).
        """
        chosen = is_kept[self._numbers]
        self._rows, self._numbers = self._rows[chosen], self._numbers[chosen]

    def are_templates(self) -> Marks:
        """(groups,): do most rows of a source hold it?"""
        everything = np.arange(len(self._known))
        sources = self._known.sources(everything[self._known.is_somewhere(everything)])
        in_source = np.bincount(sources) if len(sources) else np.zeros(1, np.int64)
        holders = self._numbers * len(in_source) + self._known.sources(self._rows)
        keys, counts = np.unique(holders, return_counts=True)
        is_template = (counts >= LEAST_ROWS) & (counts > TEMPLATE_SHARE * in_source[keys % len(in_source)])
        found = np.zeros(len(self._is_rare), np.bool_)
        found[keys[is_template] // len(in_source)] = True
        return found

    def between_sides(self) -> tuple[Candidates, Indices]:
        """Pairs of earlier rows that stand on two sides, and the group of each: what they share was let through before."""
        rows, numbers = self._heads()
        sides = self._known.side[rows]
        pairs, groups = [], []
        for distance in range(1, 5):  # a group has a head a side, at most five
            first, second = slice(None, -distance), slice(distance, None)
            is_one = numbers[first] == numbers[second]
            is_guard = [np.isin(sides[each], PROTECTED) for each in (first, second)]
            is_train = (sides[first] == TRAIN) | (sides[second] == TRAIN)
            is_let_through = is_train | ~(is_guard[0] | is_guard[1])  # golden rows keep nothing but training away
            chosen = is_one & is_let_through
            pairs.append(np.sort(np.stack([rows[first][chosen], rows[second][chosen]], 1), axis=1))
            groups.append(numbers[first][chosen])
        both, places = np.concatenate(pairs), np.concatenate(groups)
        return Candidates(both, self._is_rare[places]), places

    def candidates(self) -> Candidates:
        """Each new row with the first earlier row of each side, and with the first new row and the one before it; each golden or
        benchmark row of a group that is not large with all others."""
        is_new = self._rows >= self._first_new
        rows, numbers = self._rows[is_new], self._numbers[is_new]
        starts = is_first(numbers)
        first = rows[np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))] if len(rows) else rows
        before = np.concatenate([[0], rows[:-1]]) if len(rows) else rows
        pairs = [np.stack([leader[~starts], rows[~starts]], 1) for leader in (first, before)]
        groups = [numbers[~starts], numbers[~starts]]
        heads, head_numbers = self._heads()
        low, high = np.searchsorted(head_numbers, numbers), np.searchsorted(head_numbers, numbers, side="right")
        for place in range(5):
            has_one = low + place < high
            pairs.append(np.stack([heads[low[has_one] + place], rows[has_one]], 1))
            groups.append(numbers[has_one])
        guarded, guarded_groups = self._guarded()
        pairs.append(guarded)
        groups.append(guarded_groups)
        return each_once(np.concatenate(pairs), self._is_rare[np.concatenate(groups)])

    def _guarded(self) -> tuple[Pairs, Indices]:
        """Golden and benchmark rows, each with the rows of its group that are neither, one of the two new."""
        is_guard = np.isin(self._known.side[self._rows], PROTECTED)
        guards = np.flatnonzero(is_guard & self._is_small[self._numbers])
        others = np.flatnonzero(~is_guard)
        low, high = (
            np.searchsorted(self._numbers[others], self._numbers[guards], side=side) for side in ("left", "right")
        )
        counts = high - low
        places = others[np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())]
        pairs = np.sort(np.stack([np.repeat(self._rows[guards], counts), self._rows[places]], 1), axis=1)
        is_new = pairs[:, 1] >= self._first_new
        return pairs[is_new], self._numbers[places][is_new]

    def _heads(self) -> tuple[Indices, Indices]:
        """The first earlier row of each group on each side, and the groups, ascending."""
        is_old = self._rows < self._first_new
        rows, numbers = self._rows[is_old], self._numbers[is_old]
        keys = numbers * 8 + self._known.side[rows]
        order = np.argsort(keys, kind="stable")
        chosen = order[is_first(keys[order])]
        return rows[chosen], numbers[chosen]

    def drop_groups(self, numbers: Indices) -> None:
        is_kept = np.ones(len(self._is_rare), np.bool_)
        is_kept[numbers] = False
        self.keep(is_kept)


def each_once(pairs: Pairs, is_rare: Marks) -> Candidates:
    """The pairs in order, each once; rare where one of the equal ones is."""
    both = np.sort((pairs[:, 0] << 32 | pairs[:, 1]) << 1 | ~is_rare)
    both = both[is_first(both >> 1)]  # the rare one of equal pairs is the first
    return Candidates(np.stack([both >> 33, both >> 1 & 0xFFFFFFFF], 1), both & 1 == 0)


def _of_many(entries: Entries, least: int) -> Hashes:
    """The fingerprints, ascending, that at least so many rows hold."""
    prints = hashes_of(sorted_once(entries))
    starts = np.flatnonzero(is_first(prints))
    found: Hashes = prints[starts][np.diff(np.append(starts, len(prints))) >= least]
    return found


def _of_interest(
    known: Known, first_new: int, sketch: Sketch, most: int, total: int
) -> tuple[Entries, Indices, Entries]:
    """The fingerprints that stand in a new row with all rows that hold them, each row once a fingerprint; the new rows of those
    fingerprints that are left out, as they stand in more than `most` earlier rows: too many to go through for each batch; and
    these with their rows, unless there are very many."""
    owners = np.repeat(np.arange(first_new, len(known)), np.diff(sketch.offsets()))
    is_there = known.is_somewhere(owners)
    new = sorted_once(entries_of(sketch.prints[is_there], owners[is_there]))
    prints = hashes_of(new)
    old, common = known.by_passage.all_of(prints[is_first(prints)], most=most + known.taken_out)
    is_common = are_among(prints, common) if len(common) else np.zeros(len(prints), np.bool_)
    left_out = new[:0]
    if len(common) and total <= MOST_COUNTED:
        left_out = np.concatenate([known.by_passage.all_of(common, most=MOST_ROWS)[0], new[is_common]])
    return sorted_once(np.concatenate([old, new[~is_common]])), rows_of(new[is_common]), left_out
