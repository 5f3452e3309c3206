"""Index from hashes to the rows that hold them: runs of sorted entries, merged as they grow, so that the cost of each of ten
thousand small batches does not grow with the number of batches. Pure.

An entry is a hash (upper 36 bits) and a row (lower 28 bits). A small run is sorted when it is added. A large one is scanned with a
bit table, since sorting millions of entries for one small batch would cost as much as the whole; it is sorted after a few scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Entries = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]

ROW_BITS = 28
MOST_ROWS = 1 << ROW_BITS
_ROW = np.uint64(MOST_ROWS - 1)
_SHIFT = np.uint64(ROW_BITS)
TABLE_BITS = 22
SORTED_AT_ONCE = 1 << 16
"""A run of at most so many entries is sorted when it is added."""
SCANS_WORTH_A_SORT = 4
SHORT_RUN = 1 << 13
"""Runs up to this length are merged whenever one is added, so that there are fewer runs to search."""
AT_ONCE = 1 << 20


def entries_of(hashes: npt.NDArray[np.unsignedinteger], rows: Indices) -> Entries:
    """Unsorted entries."""
    entries: Entries = hashes.astype(np.uint64) << _SHIFT | rows.astype(np.uint64)
    return entries


def rows_of(entries: Entries) -> Indices:
    return (entries & _ROW).astype(np.int64)


def hashes_of(entries: Entries) -> Hashes:
    hashes: Hashes = entries >> _SHIFT
    return hashes


def sorted_once(entries: Entries) -> Entries:
    """The distinct entries in order. Sorts the array itself: a copy of tens of millions of entries would take hundreds of MB."""
    entries.sort()  # np.unique hashes first, and takes ten times as long
    return entries[is_first(entries)]


def with_common_hash(entries: Entries) -> Entries:
    """The sorted entries without those whose hash no other entry has."""
    starts = is_first(entries >> _SHIFT)
    is_alone = starts.copy()
    is_alone[:-1] &= starts[1:]
    return entries[~is_alone]


def is_first(values: npt.NDArray[np.generic]) -> Marks:
    """(values,) of sorted values: does it differ from the previous one?"""
    marks = np.ones(len(values), np.bool_)
    marks[1:] = values[1:] != values[:-1]
    return marks


def distinct_by_owner(values: npt.NDArray[Any], owners: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The distinct pairs of a value and its owner, ascending."""
    order = np.lexsort((owners, values))
    values, owners = values[order], owners[order]
    is_once = is_first(values) | is_first(owners)
    return values[is_once], owners[is_once]


def frequent_values(values: npt.NDArray[Any], minimum: int) -> npt.NDArray[Any]:
    """The distinct ones of sorted values that occur at least `minimum` times."""
    starts = np.flatnonzero(is_first(values))
    return values[starts][np.diff(np.append(starts, len(values))) >= minimum]


def is_in_sorted(values: Hashes, reference: Hashes) -> Marks:
    """(values,) is it in `reference` (ascending, at least one)?"""
    marks: Marks = reference[np.minimum(np.searchsorted(reference, values), len(reference) - 1)] == values
    return marks


@dataclass
class _Unsorted:
    hashes: npt.NDArray[np.uint32]
    """The lower 32 bits of each entry's hash."""
    entries_at: Callable[[Indices], Entries]
    scans: int = 0

    def all_entries(self) -> Entries:
        return self.entries_at(np.arange(len(self.hashes)))

    def matching(self, queried: Hashes) -> Entries:
        """The entries with one of these hashes (ascending)."""
        table = np.zeros(1 << TABLE_BITS, np.bool_)
        table[queried.astype(np.uint32) >> np.uint32(32 - TABLE_BITS)] = True
        positions = [
            first + np.flatnonzero(table[self.hashes[first : first + AT_ONCE] >> np.uint32(32 - TABLE_BITS)])
            for first in range(0, len(self.hashes), AT_ONCE)
        ]
        entries = self.entries_at(np.concatenate(positions))
        return entries[is_in_sorted(hashes_of(entries), queried)]


class Index:
    """Args: is_live: which of some rows still count; a row that does not never counts again."""

    def __init__(self, is_live: Callable[[Indices], Marks]) -> None:
        self._is_live = is_live
        self._runs: list[Entries] = []
        """Sorted, the longest first."""
        self._unsorted: list[_Unsorted] = []

    def add(self, hashes: npt.NDArray[np.uint32], entries_at: Callable[[Indices], Entries]) -> None:
        """Adds a run by the lower 32 bits of each entry's hash, and a function from positions in these to their entries."""
        run = _Unsorted(hashes, entries_at)
        if len(hashes) <= SORTED_AT_ONCE:
            self._add_sorted(run.all_entries())
        else:
            self._unsorted.append(run)

    def ends(self, hashes: Hashes) -> tuple[Indices, Indices]:
        """(hashes,) the first and the last row that hold each (ascending, distinct); MOST_ROWS and -1 where none does."""
        first = np.full(len(hashes), MOST_ROWS, np.int64)
        last = np.full(len(hashes), -1, np.int64)
        for run, low, high in self._ranges(hashes):
            nonempty = np.flatnonzero(high > low)
            lowest, highest = rows_of(run[low[nonempty]]), rows_of(run[high[nonempty] - 1])
            are_live = self._is_live(lowest) & self._is_live(highest)
            certain, others = nonempty[are_live], nonempty[~are_live]
            first[certain] = np.minimum(first[certain], lowest[are_live])
            last[certain] = np.maximum(last[certain], highest[are_live])
            rows = rows_of(run[_concatenated_ranges(low[others], high[others])])
            owners = np.repeat(others, high[others] - low[others])
            live = self._is_live(rows)
            np.minimum.at(first, owners[live], rows[live])
            np.maximum.at(last, owners[live], rows[live])
        return first, last

    def all_of(self, hashes: Hashes, most: int) -> tuple[Entries, Hashes]:
        """The entries of these hashes (ascending, distinct), without those that have more than `most`; and the latter hashes."""
        ranges = list(self._ranges(hashes))
        counts = np.sum([high - low for _, low, high in ranges], axis=0) if ranges else np.zeros(len(hashes), np.int64)
        is_few = counts <= most
        parts = [run[_concatenated_ranges(low[is_few], high[is_few])] for run, low, high in ranges]
        entries = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        return entries[self._is_live(rows_of(entries))], hashes[~is_few]

    def first_rows(self, hashes: Hashes, most: int, removed: int) -> Indices:
        """The first rows, up to `most` per hash, that hold these hashes (ascending, distinct); merged, ascending. At most
        `removed` of the added rows are not live any more."""
        ranges = self._ranges(hashes)
        parts = [run[_concatenated_ranges(low, np.minimum(high, low + most + removed))] for run, low, high in ranges]
        entries = sorted_once(np.concatenate([np.empty(0, np.uint64), *parts]))
        entries = entries[self._is_live(rows_of(entries))]
        starts = is_first(hashes_of(entries))
        positions = np.arange(len(entries))
        rank = positions - np.maximum.accumulate(np.where(starts, positions, 0)) if len(entries) else positions
        rows = np.sort(rows_of(entries[rank < most]))
        return rows[is_first(rows)]

    def _ranges(self, hashes: Hashes) -> Iterator[tuple[Entries, Indices, Indices]]:
        """Sorted runs, each with the start and end of every hash in it."""
        if not len(hashes):
            return
        for run in self._runs_for(hashes):
            low, high = hashes << _SHIFT, hashes << _SHIFT | _ROW
            yield run, np.searchsorted(run, low), np.searchsorted(run, high, side="right")

    def _runs_for(self, hashes: Hashes) -> Iterator[Entries]:
        worth_a_sort = [run for run in self._unsorted if run.scans >= SCANS_WORTH_A_SORT]
        self._unsorted = [run for run in self._unsorted if run.scans < SCANS_WORTH_A_SORT]
        for run in worth_a_sort:
            self._add_sorted(run.all_entries())
        yield from self._runs
        for run in self._unsorted:
            run.scans += 1
            yield sorted_once(run.matching(hashes))

    def _add_sorted(self, entries: Entries) -> None:
        run = self._sorted(entries)
        while self._runs and len(self._runs[-1]) <= max(2 * len(run), SHORT_RUN):
            run = self._sorted(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)

    def _sorted(self, entries: Entries) -> Entries:
        return sorted_once(entries[self._is_live(rows_of(entries))])


def _concatenated_ranges(low: Indices, high: Indices) -> Indices:
    """The indices of all ranges, concatenated."""
    counts = high - low
    ends = np.cumsum(counts)
    indices: Indices = np.repeat(low - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
    return indices
