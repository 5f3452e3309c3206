"""Packing: examples in rows of a fixed length with hardly any padding, where every row is a sample of all examples.

A step's loss is a mean over its trained tokens, so each token of a row of short answers weighs more than one of a row of long
answers. So lengths are mixed within a row (mixing.py), in no more rows than best-fit decreasing takes (best_fit.py). Examples of
equal length are assigned by hash rank, and then exchanged so that rows have about equally many trained tokens.
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
"""Least number of row patterns, where there are so many rows: a pattern takes half a millisecond."""
FEW = 64
"""Patterns with fewer rows are processed together: a numpy call has a fixed cost."""
PARTS = (64, 63, 62, 60, 56, 48, 32, 16, 0)
"""64ths of the mixed rows that are kept: the most with which the rest is packed as tightly as without mixing."""


@dataclass(frozen=True)
class Packed:
    order: Numbers
    """The examples row by row, the longest of a row first."""
    counts: Numbers
    """How many examples each row has."""


def pack(lengths: Lengths, trained: Lengths, ranks: Ranks, capacity: int) -> Packed:
    """Packs examples into rows: no more rows than best-fit decreasing takes.

    Equal inputs give equal rows. The lengths of a row depend only on the number of examples of each length, so ten million examples
    take seconds, and four to seven bytes each in addition to the arguments.

    Args:
        lengths: tokens of each example, each at most `capacity`.
        trained: trained tokens of each example.
        ranks: a hash of each example, which decides between examples of equal length.
        capacity: tokens of a row.
    """
    assert not len(lengths) or 0 < lengths.min() <= lengths.max() <= capacity, f"examples of 1 to {capacity} tokens fit"
    of_length = count_lengths(lengths)
    shares, rows = _assign_rows(of_length, capacity)
    counts = np.zeros(rows, np.int32)
    for share in (share for of_rows in shares.values() for share in of_rows):
        share.add_to(counts)
    order = np.empty(len(lengths), np.int32)
    trained_in_row = np.zeros(rows, np.int64)
    free = _row_starts(counts)
    for length, examples in longest_first(lengths, ranks, of_length):
        pending = np.zeros(0, np.int32)
        for in_rows, positions in _positions(shares[length], free):
            while len(pending) < len(positions):
                pending = np.concatenate([pending, next(examples)])
            order[positions], pending = pending[: len(positions)], pending[len(positions) :]
            trained_in_row[in_rows] += trained[order[positions]]
    _balance_trained(order, shares, _row_starts(counts), trained_in_row, trained)
    return Packed(order, counts)


def _assign_rows(of_length: Numbers, capacity: int) -> tuple[Shares, int]:
    """The rows of the examples of each length, the longest first, and the number of rows: mixed, as far as this takes no more rows
    than best-fit decreasing."""
    _, needed = best_fit(of_length, capacity)
    if not needed:
        return {}, 0
    max_waste = capacity - float(of_length @ np.arange(len(of_length), dtype=np.int64)) / needed
    patterns = list(mixed_patterns(of_length.astype(np.int64), capacity, max_waste, max(1, needed // PATTERNS)))
    ends = np.cumsum([0, *(pattern.times for pattern in patterns)], dtype=np.int32)
    for part in PARTS:
        kept = int(np.searchsorted(ends, int(ends[-1]) * part // 64, side="right")) - 1
        remaining = of_length.astype(np.int64)
        for pattern in patterns[:kept]:
            pattern.take_from(remaining)
        rest, rows = best_fit(remaining, capacity, first=int(ends[kept]))
        if ends[kept] + rows <= needed:
            return _merge(patterns[:kept], ends, rest), int(ends[kept]) + rows
    raise AssertionError("without mixed rows, all is packed by best-fit decreasing")


def _merge(patterns: list[Pattern], ends: Numbers, rest: Shares) -> Shares:
    """The shares of the patterns' rows and of the rest, the longest first."""
    shares: defaultdict[int, list[Share]] = defaultdict(list)
    rows = np.arange(ends[len(patterns)], dtype=np.int32)
    small_patterns: defaultdict[tuple[int, int], list[Numbers]] = defaultdict(list)
    for pattern, first, last in zip(patterns, ends.tolist(), ends[1:].tolist(), strict=False):
        for length, per_row in Counter(pattern.lengths).items():
            if pattern.times < FEW:
                small_patterns[length, per_row].append(rows[first:last])
            else:
                shares[length].append(Share(rows[first:last], per_row, per_row * pattern.times))
    for (length, per_row), parts in small_patterns.items():
        rows_of_parts = np.concatenate(parts)
        shares[length].append(Share(rows_of_parts, per_row, per_row * len(rows_of_parts)))
    for length, of_rest in rest.items():
        shares[length] += of_rest
    return {length: shares[length] for length in sorted(shares, reverse=True)}


def _balance_trained(
    order: Numbers, shares: Shares, free: Numbers, trained_in_row: npt.NDArray[np.int64], trained: Lengths
) -> None:
    """Exchanges examples of equal length: those with the most trained tokens move to the rows with the fewest."""
    if not len(order) or trained.min() == trained.max():
        return
    for of_rows in shares.values():
        for rows, positions in _positions(of_rows, free):
            examples = order[positions]
            trained_in_row[rows] -= trained[examples]
            fewest = np.argsort(trained_in_row[rows], kind="stable")
            most = np.argsort(trained[examples], kind="stable")[::-1]
            order[positions[fewest]] = examples[most]
            trained_in_row[rows[fewest]] += trained[examples[most]]


def _positions(shares: list[Share], free: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows, and the next free position in each, for the examples of one length; in portions, in which a row occurs once, since a
    row gets all its examples of a length in one share."""
    portions: defaultdict[int, list[tuple[Numbers, Numbers]]] = defaultdict(list)
    size = 0
    for share in shares:
        rows_at_once = max(1, AT_ONCE // share.per_row)
        for first in range(0, len(share.rows), rows_at_once):
            rows = share.rows[first : first + rows_at_once]
            has_last = first + rows_at_once >= len(share.rows)
            for number in range(share.per_row):
                free_rows = rows[:-1] if has_last and number >= share.in_last else rows
                portions[number].append((free_rows, free[free_rows] + np.int32(number)))
            size += len(rows) * share.per_row
            if size >= AT_ONCE:
                yield from _portions(portions)
                portions.clear()
                size = 0
        share.add_to(free)
    yield from _portions(portions)


def _portions(portions: dict[int, list[tuple[Numbers, Numbers]]]) -> Iterator[tuple[Numbers, Numbers]]:
    for parts in portions.values():
        rows, positions = zip(*parts, strict=True)
        yield np.concatenate(rows), np.concatenate(positions)


def _row_starts(counts: Numbers) -> Numbers:
    """The first position of each row."""
    return np.cumsum(counts, dtype=np.int32) - counts
