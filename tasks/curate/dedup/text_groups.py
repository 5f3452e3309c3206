"""Fingerprints that link rows, and the rows that hold them. Pure; shared_text.py then verifies candidates on the texts.

Text that most rows of a source hold is the template of that source, and text that very many rows hold is boilerplate: neither
links rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tasks.curate.dedup.candidates import Candidates, FixedParts, Marks, Pairs, distinct_candidates
from tasks.curate.dedup.index import (
    MOST_ROWS,
    Entries,
    Indices,
    entries_of,
    frequent_values,
    hashes_of,
    is_first,
    is_in_sorted,
    rows_of,
    sorted_once,
    with_common_hash,
)
from tasks.curate.dedup.known import PROTECTED, TRAIN, RowTable
from tasks.curate.dedup.sketch_file import Signatures

TEMPLATE_SHARE = 0.75
"""A fingerprint in more than this share of a source's rows, and in at least LEAST_ROWS, is part of the source's template."""
LONG_FACTOR = 5
"""A long passage is boilerplate above this many times the row count from which a short one is."""
LARGE_SHARE = 0.4
"""A fingerprint in more than this share of all rows, and in at least LEAST_ROWS, is a fixed part of their prompts."""
LEAST_ROWS = 8
COMMON_SHARE = 0.05
"""Boilerplate in more than this share of all rows is a template, however long it is."""
MOST_COUNTED = 20_000
"""With more rows than this, rows that hold boilerplate are not counted."""


class Groups:
    """The rows that hold each fingerprint that links new rows with each other and with earlier rows, ascending. A group is
    identified by its number.

    Args:
        signatures: those of the new rows.
        common_rows, common_share: as in CurateSettings.
    """

    def __init__(self, table: RowTable, signatures: Signatures, common_rows: int, common_share: float) -> None:
        total = int(table.has_split(np.arange(len(table))).sum())
        self.most = most = max(LONG_FACTOR * common_rows, int(common_share * total))
        """A run that more rows hold links no rows."""
        entries, boilerplate, common = _shared_fingerprints(table, signatures, most, total)
        fingerprints = hashes_of(entries)
        starts = np.flatnonzero(is_first(fingerprints))
        sizes = np.diff(np.concatenate([starts, [len(fingerprints)]]))
        self._table = table
        self._rows = rows = rows_of(entries)
        self._numbers = np.repeat(np.arange(len(starts)), sizes)
        self._is_rare = sizes <= common_rows
        self._is_small = sizes <= LONG_FACTOR * common_rows
        is_new_of_large = (sizes > most)[self._numbers] & (rows >= table.first_new)
        self.boilerplate = np.unique(np.concatenate([boilerplate, rows[is_new_of_large]]))
        """New rows that hold such a run: shared text after it may have no fingerprint of its own."""
        self.fixed = _fixed_parts(np.concatenate([entries, common]), total, most)
        """What a large share of all rows have in common."""
        self.keep((sizes > 1) & (sizes <= most) & ~self.are_templates())

    def keep(self, is_kept: Marks) -> None:
        """Removes the groups that are not kept (groups,)."""
        chosen = is_kept[self._numbers]
        self._rows, self._numbers = self._rows[chosen], self._numbers[chosen]

    def are_templates(self) -> Marks:
        """(groups,): do most rows of a source hold the fingerprint?"""
        all_rows = np.arange(len(self._table))
        sources = self._table.sources(all_rows[self._table.has_split(all_rows)])
        in_source = np.bincount(sources) if len(sources) else np.zeros(1, np.int64)
        holders = self._numbers * len(in_source) + self._table.sources(self._rows)
        keys, counts = np.unique(holders, return_counts=True)
        is_template = (counts >= LEAST_ROWS) & (counts > TEMPLATE_SHARE * in_source[keys % len(in_source)])
        is_template_group = np.zeros(len(self._is_rare), np.bool_)
        is_template_group[keys[is_template] // len(in_source)] = True
        return is_template_group

    def between_splits(self) -> tuple[Candidates, Indices]:
        """Pairs of earlier rows in different splits, and the group of each pair: their shared text was accepted before."""
        rows, numbers = self._first_per_split()
        splits = self._table.split[rows]
        pairs, groups = [], []
        for distance in range(1, 5):  # a group has one first row per split, at most five
            first, second = slice(None, -distance), slice(distance, None)
            is_same_group = numbers[first] == numbers[second]
            is_protected = np.isin(splits[first], PROTECTED) | np.isin(splits[second], PROTECTED)
            is_train = (splits[first] == TRAIN) | (splits[second] == TRAIN)
            chosen = is_same_group & (is_train | ~is_protected)  # a golden row conflicts with training rows only
            pairs.append(np.sort(np.stack([rows[first][chosen], rows[second][chosen]], 1), axis=1))
            groups.append(numbers[first][chosen])
        all_pairs, all_groups = np.concatenate(pairs), np.concatenate(groups)
        return Candidates(all_pairs, self._is_rare[all_groups]), all_groups

    def candidates(self) -> Candidates:
        """Each new row with the first earlier row of each split, the first new row, and the new row before it; in a group that is
        not large, each golden or benchmark row with all others."""
        is_new = self._rows >= self._table.first_new
        rows, numbers = self._rows[is_new], self._numbers[is_new]
        starts = is_first(numbers)
        first = rows[np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))] if len(rows) else rows
        before = np.concatenate([[0], rows[:-1]]) if len(rows) else rows
        pairs = [np.stack([representative[~starts], rows[~starts]], 1) for representative in (first, before)]
        groups = [numbers[~starts], numbers[~starts]]
        first_rows, first_numbers = self._first_per_split()
        low, high = np.searchsorted(first_numbers, numbers), np.searchsorted(first_numbers, numbers, side="right")
        for number in range(5):
            exists = low + number < high
            pairs.append(np.stack([first_rows[low[exists] + number], rows[exists]], 1))
            groups.append(numbers[exists])
        protected_pairs, protected_groups = self._protected_pairs()
        pairs.append(protected_pairs)
        groups.append(protected_groups)
        return distinct_candidates(np.concatenate(pairs), self._is_rare[np.concatenate(groups)])

    def _protected_pairs(self) -> tuple[Pairs, Indices]:
        """Golden and benchmark rows, each with the other rows of its group; at least one of the two is new."""
        is_protected = np.isin(self._table.split[self._rows], PROTECTED)
        protected_rows = np.flatnonzero(is_protected & self._is_small[self._numbers])
        others = np.flatnonzero(~is_protected)
        low, high = (
            np.searchsorted(self._numbers[others], self._numbers[protected_rows], side=side)
            for side in ("left", "right")
        )
        counts = high - low
        positions = others[np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())]
        pairs = np.sort(np.stack([np.repeat(self._rows[protected_rows], counts), self._rows[positions]], 1), axis=1)
        is_new = pairs[:, 1] >= self._table.first_new
        return pairs[is_new], self._numbers[positions][is_new]

    def _first_per_split(self) -> tuple[Indices, Indices]:
        """The first earlier row of each group in each split, and its group, ascending."""
        is_old = self._rows < self._table.first_new
        rows, numbers = self._rows[is_old], self._numbers[is_old]
        keys = numbers * 8 + self._table.split[rows]
        order = np.argsort(keys, kind="stable")
        chosen = order[is_first(keys[order])]
        return rows[chosen], numbers[chosen]

    def drop_groups(self, numbers: Indices) -> None:
        is_kept = np.ones(len(self._is_rare), np.bool_)
        is_kept[numbers] = False
        self.keep(is_kept)


def _fixed_parts(entries: Entries, total: int, most: int) -> FixedParts:
    """What a large share of all rows (`total`) hold; for pairs with a golden or benchmark row, what more than `most` hold."""
    minimum = min(int(TEMPLATE_SHARE * total), max(most, int(COMMON_SHARE * total)))
    large, template = int(LARGE_SHARE * total), int(TEMPLATE_SHARE * total)
    fingerprints = hashes_of(sorted_once(entries))

    def parts(*counts: int) -> FixedParts:
        """What more rows than the first count hold; of it, what more rows than the second hold is a template."""
        fixed, templates = (frequent_values(fingerprints, max(LEAST_ROWS, count + 1)) for count in counts)
        return FixedParts(fixed, templates)

    return replace(parts(large, template), with_protected=parts(min(large, minimum), minimum))


def _shared_fingerprints(
    table: RowTable, signatures: Signatures, most: int, total: int
) -> tuple[Entries, Indices, Entries]:
    """The fingerprints that several rows hold, one of them new, with all of these rows (each pair once); the new rows whose
    fingerprints are skipped because more than `most` earlier rows hold them, too many to read for each batch; and the entries of
    these skipped fingerprints, unless there are very many rows."""
    owners = np.repeat(np.arange(table.first_new, len(table)), np.diff(signatures.offsets()))
    has_split = table.has_split(owners)
    new = sorted_once(entries_of(signatures.fingerprints[has_split], owners[has_split]))
    fingerprints = hashes_of(new)
    old, common = table.by_passage.all_of(fingerprints[is_first(fingerprints)], most=most + table.removed)
    is_common = is_in_sorted(fingerprints, common) if len(common) else np.zeros(len(fingerprints), np.bool_)
    left_out = new[:0]
    if len(common) and total <= MOST_COUNTED:
        left_out = np.concatenate([table.by_passage.all_of(common, most=MOST_ROWS)[0], new[is_common]])
    rows_of_common = rows_of(new[is_common])
    entries = np.concatenate([old, new[~is_common]])
    del old, new, fingerprints  # most fingerprints are of one row
    return with_common_hash(sorted_once(entries)), rows_of_common, left_out
