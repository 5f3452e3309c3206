"""The examples of each length, by hash rank, out of arrays of all of them: in little memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.render.packing.best_fit import Numbers

Lengths = npt.NDArray[np.integer[Any]]
Ranks = npt.NDArray[np.uint16]
RANKS = 2**16
AT_ONCE = 2**16
"""Examples that are sorted together, where all are few: a hundred bytes each."""
PASSES = 64
"""Over all examples, where they are many."""
_SCANNED = 2**18
_GOLDEN = 40_503
"""The golden ratio x 2¹⁶: its multiples are far from one another."""


def ranks_of(row_ids: npt.NDArray[np.bytes_], first: int) -> Ranks:
    """A hash of each example, of which `first` is the number of the first.

    It is the last 16 bits of its row's id, and other ones for the examples of one row, which follow one another.
    """
    digits = np.ascontiguousarray(row_ids).view(np.uint8).reshape(-1, row_ids.itemsize)[:, -4:].astype(np.uint32)
    digits = (digits & 15) + 9 * (digits >> 6)  # of 0 to 9, a to f
    numbers = np.arange(first, first + len(row_ids), dtype=np.uint64) * np.uint64(_GOLDEN)
    found: Ranks = ((digits @ np.array([2**12, 2**8, 2**4, 1], np.uint32) + numbers) % RANKS).astype(np.uint16)
    return found


def longest_first(lengths: Lengths, ranks: Ranks, of_length: Numbers) -> Iterator[tuple[int, Iterator[Numbers]]]:
    """Each length, longest first, and the examples that have it, by rank: found in some passes over all."""
    at_once = max(AT_ONCE, len(lengths) // PASSES)
    waiting: list[int] = []
    found = 0
    for length in np.flatnonzero(of_length)[::-1].tolist():
        count = int(of_length[length])
        if waiting and found + count > at_once:
            yield from _of_lengths(lengths, ranks, waiting)
            waiting, found = [], 0
        if count > at_once:
            yield length, _of_many(lengths, ranks, length, -(-count // at_once))
        else:
            waiting.append(length)
            found += count
    if waiting:
        yield from _of_lengths(lengths, ranks, waiting)


def _of_many(lengths: Lengths, ranks: Ranks, length: int, portions: int) -> Iterator[Numbers]:
    """The examples of a length of which there are many, by rank, a range of ranks at a time."""
    edges = [RANKS * number // portions for number in range(portions + 1)]
    for first, last in itertools.pairwise(edges):
        examples = _where(lengths, ranks, length, length, first, last)
        yield examples[np.argsort(ranks[examples], kind="stable")]


def _of_lengths(lengths: Lengths, ranks: Ranks, wanted: list[int]) -> Iterator[tuple[int, Iterator[Numbers]]]:
    """As above, of these lengths, which are all between the longest and the shortest of them."""
    examples = _where(lengths, ranks, wanted[-1], wanted[0], 0, RANKS)
    shorter = wanted[0] - lengths[examples].astype(np.int64)
    sort = np.argsort(shorter * RANKS + ranks[examples], kind="stable")
    edges = np.searchsorted(shorter[sort], [wanted[0] - length for length in wanted])
    for length, some in zip(wanted, np.split(examples[sort], edges[1:]), strict=True):
        yield length, iter([some])


def _where(lengths: Lengths, ranks: Ranks, shortest: int, longest: int, first: int, last: int) -> Numbers:
    """The examples of these lengths, and of the ranks from `first` to before `last`."""
    found = []
    for start in range(0, len(lengths), _SCANNED):
        some, of_some = lengths[start : start + _SCANNED], ranks[start : start + _SCANNED]
        fits = (some >= shortest) & (some <= longest)
        if (first, last) != (0, RANKS):
            fits &= (of_some >= first) & (of_some < last)
        found.append((start + np.flatnonzero(fits)).astype(np.int32))
    return np.concatenate(found)


def count_lengths(lengths: Lengths) -> Numbers:
    """How many there are of each length; np.bincount would first copy them all as int64."""
    counts = np.zeros(int(lengths.max()) + 1 if len(lengths) else 0, np.int32)
    for first in range(0, len(lengths), _SCANNED):
        counts += np.bincount(lengths[first : first + _SCANNED], minlength=len(counts)).astype(np.int32)
    return counts
