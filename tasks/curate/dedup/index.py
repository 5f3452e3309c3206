"""Which rows hold a hash: runs of sorted entries that are merged as they grow, so that each of ten thousand small batches costs
what it costs. Pure.

An entry is a hash (36 bits) above a row (28 bits). A small run is sorted when it comes; a large one is gone through by a table of
bits, since sorting millions for one small batch would cost as much as the whole; it is sorted once it was gone through a few times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.curate.dedup.sketch_file import Indices

Entries = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]

ROW_BITS = 28
MOST_ROWS = 1 << ROW_BITS
_ROW = np.uint64(MOST_ROWS - 1)
_SHIFT = np.uint64(ROW_BITS)
TABLE_BITS = 22
SORTED_AT_ONCE = 1 << 16
"""A run of at most so many entries is sorted when it comes."""
SCANS_WORTH_A_SORT = 4
SHORT_RUN = 1 << 13
"""Runs are merged up to here whenever one comes: fewer runs to look into."""
AT_ONCE = 1 << 20


def entries_of(hashes: npt.NDArray[np.unsignedinteger], rows: Indices) -> Entries:
    """Entries, unsorted."""
    found: Entries = hashes.astype(np.uint64) << _SHIFT | rows.astype(np.uint64)
    return found


def rows_of(entries: Entries) -> Indices:
    return (entries & _ROW).astype(np.int64)


def hashes_of(entries: Entries) -> Hashes:
    found: Hashes = entries >> _SHIFT
    return found


def sorted_once(entries: Entries) -> Entries:
    """The entries in order, each once."""
    entries = np.sort(entries)  # np.unique would hash first, and take ten times as long
    return entries[is_first(entries)]


def is_first(values: npt.NDArray[np.generic]) -> Marks:
    """For each of sorted values: is it another than the one before it?"""
    marks = np.ones(len(values), np.bool_)
    marks[1:] = values[1:] != values[:-1]
    return marks


def are_among(values: Hashes, wanted: Hashes) -> Marks:
    """Which of the values are wanted (ascending, at least one)?"""
    found: Marks = wanted[np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)] == values
    return found


@dataclass
class _Unsorted:
    hashes: npt.NDArray[np.uint32]
    """The lower 32 bits of each entry's hash."""
    entries_at: Callable[[Indices], Entries]
    scans: int = 0

    def everything(self) -> Entries:
        return self.entries_at(np.arange(len(self.hashes)))

    def those_of(self, wanted: Hashes) -> Entries:
        """The entries whose hash is wanted (ascending)."""
        table = np.zeros(1 << TABLE_BITS, np.bool_)
        table[wanted.astype(np.uint32) >> np.uint32(32 - TABLE_BITS)] = True
        places = [
            first + np.flatnonzero(table[self.hashes[first : first + AT_ONCE] >> np.uint32(32 - TABLE_BITS)])
            for first in range(0, len(self.hashes), AT_ONCE)
        ]
        entries = self.entries_at(np.concatenate(places))
        hashes = hashes_of(entries)
        return entries[are_among(hashes, wanted)]


class Index:
    """Args: is_there: which of some rows still count; rows that once do not never do again."""

    def __init__(self, is_there: Callable[[Indices], Marks]) -> None:
        self._is_there = is_there
        self._runs: list[Entries] = []
        """Sorted, the longest first."""
        self._unsorted: list[_Unsorted] = []

    def add(self, hashes: npt.NDArray[np.uint32], entries_at: Callable[[Indices], Entries]) -> None:
        """Adds a run.

        Args:
            hashes: the lower 32 bits of each entry's hash.
            entries_at: places among these → their entries.
        """
        run = _Unsorted(hashes, entries_at)
        if len(hashes) <= SORTED_AT_ONCE:
            self._add_sorted(run.everything())
        else:
            self._unsorted.append(run)

    def ends(self, wanted: Hashes) -> tuple[Indices, Indices]:
        """For each hash (ascending, each once) the first row and the last that hold it; MOST_ROWS and -1 where none does."""
        first = np.full(len(wanted), MOST_ROWS, np.int64)
        last = np.full(len(wanted), -1, np.int64)
        for run, low, high in self._ranges(wanted):
            held = np.flatnonzero(high > low)
            lowest, highest = rows_of(run[low[held]]), rows_of(run[high[held] - 1])
            is_sure = self._is_there(lowest) & self._is_there(highest)
            sure, others = held[is_sure], held[~is_sure]
            first[sure] = np.minimum(first[sure], lowest[is_sure])
            last[sure] = np.maximum(last[sure], highest[is_sure])
            rows = rows_of(run[_expand(low[others], high[others])])
            owners = np.repeat(others, high[others] - low[others])
            remains = self._is_there(rows)
            np.minimum.at(first, owners[remains], rows[remains])
            np.maximum.at(last, owners[remains], rows[remains])
        return first, last

    def all_of(self, wanted: Hashes, most: int) -> tuple[Entries, Hashes]:
        """The entries of these hashes (ascending, each once), and those hashes that have more than `most`, which are left out."""
        ranges = list(self._ranges(wanted))
        counts = np.sum([high - low for _, low, high in ranges], axis=0) if ranges else np.zeros(len(wanted), np.int64)
        is_few = counts <= most
        found = [run[_expand(low[is_few], high[is_few])] for run, low, high in ranges]
        entries = np.concatenate(found) if found else np.empty(0, np.uint64)
        return entries[self._is_there(rows_of(entries))], wanted[~is_few]

    def some_of(self, wanted: Hashes, most: int, gone: int) -> Indices:
        """The first rows, up to `most`, that hold each of these hashes (ascending, each once); all of them, ascending.

        Args:
            gone: how many rows that were added may be there no more.
        """
        ranges = self._ranges(wanted)
        found = [run[_expand(low, np.minimum(high, low + most + gone))] for run, low, high in ranges]
        entries = sorted_once(np.concatenate([np.empty(0, np.uint64), *found]))
        entries = entries[self._is_there(rows_of(entries))]
        starts = is_first(hashes_of(entries))
        places = np.arange(len(entries))
        rank = places - np.maximum.accumulate(np.where(starts, places, 0)) if len(entries) else places
        rows = np.sort(rows_of(entries[rank < most]))
        return rows[is_first(rows)]

    def _ranges(self, wanted: Hashes) -> Iterator[tuple[Entries, Indices, Indices]]:
        """Sorted entries, and from where up to where each wanted hash stands in them."""
        if not len(wanted):
            return
        low, high = wanted << _SHIFT, wanted << _SHIFT | _ROW
        for run in self._looked_into(wanted):
            yield run, np.searchsorted(run, low), np.searchsorted(run, high, side="right")

    def _looked_into(self, wanted: Hashes) -> Iterator[Entries]:
        worth_a_sort = [run for run in self._unsorted if run.scans >= SCANS_WORTH_A_SORT]
        self._unsorted = [run for run in self._unsorted if run.scans < SCANS_WORTH_A_SORT]
        for run in worth_a_sort:
            self._add_sorted(run.everything())
        yield from self._runs
        for run in self._unsorted:
            run.scans += 1
            yield sorted_once(run.those_of(wanted))

    def _add_sorted(self, entries: Entries) -> None:
        run = self._sorted(entries)
        while self._runs and len(self._runs[-1]) <= max(2 * len(run), SHORT_RUN):
            run = self._sorted(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)

    def _sorted(self, entries: Entries) -> Entries:
        return sorted_once(entries[self._is_there(rows_of(entries))])


def _expand(low: Indices, high: Indices) -> Indices:
    """The places of all ranges, one range after another."""
    counts = high - low
    ends = np.cumsum(counts)
    found: Indices = np.repeat(low - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
    return found
