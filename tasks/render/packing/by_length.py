"""The examples of each length, ordered by hash rank, in little memory."""

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
"""Examples that are sorted at once, where there are few: a hundred bytes each."""
PASSES = 64
"""Most passes over all examples, where there are many."""
_SCANNED = 2**18
_GOLDEN = 40_503
"""The golden ratio x 2¹⁶: its multiples are evenly distributed."""


def ranks_of(row_ids: npt.NDArray[np.bytes_], first: int) -> Ranks:
    """(examples,) a hash of each example: the last 16 bits of its row's id, changed by its number (the first: `first`), since a row
    may have several."""
    digits = np.ascontiguousarray(row_ids).view(np.uint8).reshape(-1, row_ids.itemsize)[:, -4:].astype(np.uint32)
    digits = (digits & 15) + 9 * (digits >> 6)  # of 0 to 9, a to f
    numbers = np.arange(first, first + len(row_ids), dtype=np.uint64) * np.uint64(_GOLDEN)
    hashes: Ranks = ((digits @ np.array([2**12, 2**8, 2**4, 1], np.uint32) + numbers) % RANKS).astype(np.uint16)
    return hashes


def longest_first(lengths: Lengths, ranks: Ranks, of_length: Numbers) -> Iterator[tuple[int, Iterator[Numbers]]]:
    """Each length, longest first, with its examples by rank; in several passes over all examples."""
    batch_size = max(AT_ONCE, len(lengths) // PASSES)
    waiting: list[int] = []
    pending = 0
    for length in np.flatnonzero(of_length)[::-1].tolist():
        count = int(of_length[length])
        if waiting and pending + count > batch_size:
            yield from _of_lengths(lengths, ranks, waiting)
            waiting, pending = [], 0
        if count > batch_size:
            yield length, _of_many(lengths, ranks, length, -(-count // batch_size))
        else:
            waiting.append(length)
            pending += count
    if waiting:
        yield from _of_lengths(lengths, ranks, waiting)


def _of_many(lengths: Lengths, ranks: Ranks, length: int, portions: int) -> Iterator[Numbers]:
    """The examples of a frequent length by rank, one range of ranks at a time."""
    edges = [RANKS * number // portions for number in range(portions + 1)]
    for first, last in itertools.pairwise(edges):
        examples = _select(lengths, ranks, length, length, first, last)
        yield examples[np.argsort(ranks[examples], kind="stable")]


def _of_lengths(lengths: Lengths, ranks: Ranks, chosen_lengths: list[int]) -> Iterator[tuple[int, Iterator[Numbers]]]:
    """The same for several lengths, in one pass over all examples between the shortest and the longest."""
    examples = _select(lengths, ranks, chosen_lengths[-1], chosen_lengths[0], 0, RANKS)
    shorter = chosen_lengths[0] - lengths[examples].astype(np.int64)
    order = np.argsort(shorter * RANKS + ranks[examples], kind="stable")
    edges = np.searchsorted(shorter[order], [chosen_lengths[0] - length for length in chosen_lengths])
    for length, part in zip(chosen_lengths, np.split(examples[order], edges[1:]), strict=True):
        yield length, iter([part])


def _select(lengths: Lengths, ranks: Ranks, shortest: int, longest: int, first: int, last: int) -> Numbers:
    """The examples of these lengths, and of the ranks from `first` to before `last`."""
    parts = []
    for start in range(0, len(lengths), _SCANNED):
        part_lengths, part_ranks = lengths[start : start + _SCANNED], ranks[start : start + _SCANNED]
        fits = (part_lengths >= shortest) & (part_lengths <= longest)
        if (first, last) != (0, RANKS):
            fits &= (part_ranks >= first) & (part_ranks < last)
        parts.append((start + np.flatnonzero(fits)).astype(np.int32))
    return np.concatenate(parts)


def count_lengths(lengths: Lengths) -> Numbers:
    """The number of examples of each length; np.bincount would first copy all lengths as int64."""
    counts = np.zeros(int(lengths.max()) + 1 if len(lengths) else 0, np.int32)
    for first in range(0, len(lengths), _SCANNED):
        counts += np.bincount(lengths[first : first + _SCANNED], minlength=len(counts)).astype(np.int32)
    return counts
