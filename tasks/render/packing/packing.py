"""Packing: examples in rows of a fixed length, so that hardly a token is padding, and that every row is a sample of all examples.

A step's loss is a mean over its trained tokens, so a row of short answers weighs each of its tokens more than a row of long ones.
So lengths are mixed within a row (mixing.py), in no more rows than best-fit decreasing takes (best_fit.py); examples of equal
length take their places by hash rank, and then change them so that rows have about equally many trained tokens.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.render.packing.best_fit import Numbers, Share, Shares, best_fit
from tasks.render.packing.by_length import AT_ONCE, Lengths, Ranks, count_lengths, longest_first
from tasks.render.packing.mixing import Pattern, mixed_patterns

PATTERNS = 512
"""Rows of so many patterns at least, where there are so many: each takes half a millisecond."""
FEW = 64
"""Rows of equal lengths that are laid out together with those of other patterns: each step of numpy's takes its time."""
PARTS = (64, 63, 62, 60, 56, 48, 32, 16, 0)
"""Of the mixed rows, how many 64ths are kept: the more the better, as long as the rest can be packed as tightly as without them."""


@dataclass(frozen=True)
class Packed:
    order: Numbers
    """The examples row by row, each row's longest first."""
    counts: Numbers
    """How many examples each row has."""

    @property
    def rows(self) -> list[list[int]]:
        """The examples of each row."""
        return [row.tolist() for row in np.split(self.order, np.cumsum(self.counts)[:-1])] if len(self.counts) else []


def pack(lengths: Lengths, trained: Lengths, ranks: Ranks, capacity: int) -> Packed:
    """Packs examples into rows: in no more of them than best-fit decreasing takes.

    Equal inputs give equal rows. Which lengths a row has follows from how many examples there are of each length, so ten million
    take seconds, and four bytes each beside the arguments, and at most three more.

    Args:
        lengths: tokens of each example, each at most `capacity`.
        trained: how many of them are trained.
        ranks: a hash of each example, which decides between examples of equal length.
        capacity: tokens of a row.
    """
    assert not len(lengths) or 0 < lengths.min() <= lengths.max() <= capacity, f"examples of 1 to {capacity} tokens fit"
    of_length = count_lengths(lengths)
    shares, rows = _lay_out(of_length, capacity)
    counts = np.zeros(rows, np.int32)
    for share in (share for of_rows in shares.values() for share in of_rows):
        share.add_to(counts)
    order = np.empty(len(lengths), np.int32)
    sums = np.zeros(rows, np.int64)
    free = _starts(counts)
    for length, examples in longest_first(lengths, ranks, of_length):
        waiting = np.zeros(0, np.int32)
        for in_rows, places in _places(shares[length], free):
            while len(waiting) < len(places):
                waiting = np.concatenate([waiting, next(examples)])
            order[places], waiting = waiting[: len(places)], waiting[len(places) :]
            sums[in_rows] += trained[order[places]]
    _level(order, shares, _starts(counts), sums, trained)
    return Packed(order, counts)


def _lay_out(of_length: Numbers, capacity: int) -> tuple[Shares, int]:
    """Where the examples of each length are laid, the longest first, and how many rows there are: mixed, as far as they take no
    more rows than best-fit decreasing would."""
    _, needed = best_fit(of_length, capacity)
    if not needed:
        return {}, 0
    waste = capacity - float(of_length @ np.arange(len(of_length), dtype=np.int64)) / needed
    patterns = list(mixed_patterns(of_length.astype(np.int64), capacity, waste, max(1, needed // PATTERNS)))
    ends = np.cumsum([0, *(pattern.times for pattern in patterns)], dtype=np.int32)
    for part in PARTS:
        kept = int(np.searchsorted(ends, int(ends[-1]) * part // 64, side="right")) - 1
        left = of_length.astype(np.int64)
        for pattern in patterns[:kept]:
            pattern.take_from(left)
        rest, rows = best_fit(left, capacity, first=int(ends[kept]))
        if ends[kept] + rows <= needed:
            return _joined(patterns[:kept], ends, rest), int(ends[kept]) + rows
    raise AssertionError("without mixed rows, all is packed by best-fit decreasing")


def _joined(patterns: list[Pattern], ends: Numbers, rest: Shares) -> Shares:
    """The shares of the patterns' rows, and those of the rest, the longest first."""
    shares: defaultdict[int, list[Share]] = defaultdict(list)
    rows = np.arange(ends[len(patterns)], dtype=np.int32)
    few: defaultdict[tuple[int, int], list[Numbers]] = defaultdict(list)
    for pattern, first, last in zip(patterns, ends.tolist(), ends[1:].tolist(), strict=False):
        for length, each in Counter(pattern.lengths).items():
            if pattern.times < FEW:
                few[length, each].append(rows[first:last])
            else:
                shares[length].append(Share(rows[first:last], each, each * pattern.times))
    for (length, each), parts in few.items():
        joined = np.concatenate(parts)
        shares[length].append(Share(joined, each, each * len(joined)))
    for length, of_rest in rest.items():
        shares[length] += of_rest
    return {length: shares[length] for length in sorted(shares, reverse=True)}


def _level(order: Numbers, shares: Shares, free: Numbers, sums: npt.NDArray[np.int64], trained: Lengths) -> None:
    """Lets examples of equal length change places: those with most trained tokens go where the others of the row have fewest."""
    if not len(order) or trained.min() == trained.max():
        return
    for of_rows in shares.values():
        for rows, places in _places(of_rows, free):
            examples = order[places]
            sums[rows] -= trained[examples]
            fewest = np.argsort(sums[rows], kind="stable")
            most = np.argsort(trained[examples], kind="stable")[::-1]
            order[places[fewest]] = examples[most]
            sums[rows[fewest]] += trained[examples[most]]


def _places(shares: list[Share], free: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows, and the next free place in each, for the examples of one length: a portion at a time, in which a row comes once:
    best-fit decreasing and patterns alike give a row all that it takes of a length in one share."""
    held: defaultdict[int, list[tuple[Numbers, Numbers]]] = defaultdict(list)
    size = 0
    for share in shares:
        at_once = max(1, AT_ONCE // share.each)
        for first in range(0, len(share.rows), at_once):
            rows = share.rows[first : first + at_once]
            has_last = first + at_once >= len(share.rows)
            for number in range(share.each):
                taking = rows[:-1] if has_last and number >= share.in_last else rows
                held[number].append((taking, free[taking] + np.int32(number)))
            size += len(rows) * share.each
            if size >= AT_ONCE:
                yield from _portions(held)
                held.clear()
                size = 0
        share.add_to(free)
    yield from _portions(held)


def _portions(held: dict[int, list[tuple[Numbers, Numbers]]]) -> Iterator[tuple[Numbers, Numbers]]:
    for parts in held.values():
        rows, places = zip(*parts, strict=True)
        yield np.concatenate(rows), np.concatenate(places)


def _starts(counts: Numbers) -> Numbers:
    """The first place of each row."""
    return np.cumsum(counts, dtype=np.int32) - counts
