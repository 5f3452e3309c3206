"""Duplicates and near-duplicates of a batch's rows among all rows before them. Pure; a candidate is proved on the texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.known import Known
from tasks.curate.sketch import BANDS, distinct, shingles_of
from tasks.curate.sketch_file import Indices
from tasks.curate.tokens import Hashes, Offsets, mix, tokenise

PAIRS_AT_ONCE = 20_000
TABLE_BITS = 22


def leaders_of_duplicates(known: Known, first_new: int, takes_part: npt.NDArray[np.bool_]) -> Indices:
    """For each new row the first row with the same content; -1 where it is the first, or takes no part.

    Args:
        known: earlier rows, then the new ones from `first_new` on.
        takes_part: (rows,) which rows are compared.
    """
    leaders = np.full(len(known) - first_new, -1, np.int64)
    rows = np.flatnonzero(takes_part)
    old, new = rows[rows < first_new], rows[rows >= first_new]
    high = (known.key >> np.uint64(32)).astype(np.uint32)
    rows = np.concatenate([old[may_stand_in(high[old], high[new])], new])
    if not len(rows):
        return leaders
    order = rows[np.lexsort((rows, known.key2[rows], known.key[rows]))]
    is_same = (known.key[order][1:] == known.key[order][:-1]) & (known.key2[order][1:] == known.key2[order][:-1])
    starts = np.concatenate([[True], ~is_same])
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    is_led = ~starts & (order >= first_new)
    leaders[order[is_led] - first_new] = first[is_led]
    return leaders


def candidate_pairs(known: Known, first_new: int, takes_part: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(pairs, 2): an earlier row, and a new one that shares a band with it.

    In a bucket of a band, a row is compared with the first there and with the one before it: all pairs of a large bucket would
    be too many, and the first leads.
    """
    everyone = np.flatnonzero(takes_part)
    old, new = everyone[everyone < first_new], everyone[everyone >= first_new]
    found = []
    for band in range(BANDS):
        column = known.bands[band]
        rows = np.concatenate([old[may_stand_in(column[old], column[new])], new])
        keys = column[rows]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.ones(len(keys), np.bool_)
        starts[1:] = keys[1:] != keys[:-1]
        first = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
        is_led = np.flatnonzero(~starts & (rows[order] >= first_new) & (keys != 0))
        led = rows[order[is_led]]
        found += [np.stack([rows[order[first[is_led]]], led], 1), np.stack([rows[order[is_led - 1]], led], 1)]
    return distinct_pairs(np.concatenate(found))


def may_stand_in(old: npt.NDArray[np.uint32], new: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """For each old hash, may it be among the new? A table of bits, since sorting millions for a small batch would cost as much
    as the whole; it says yes too often, never too seldom."""
    table = np.zeros(1 << TABLE_BITS, np.bool_)
    table[new >> np.uint32(32 - TABLE_BITS)] = True
    found: npt.NDArray[np.bool_] = table[old >> np.uint32(32 - TABLE_BITS)]
    return found


def distinct_pairs(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The pairs in order, each once."""
    both = np.sort(pairs[:, 0] << 32 | pairs[:, 1])
    both = both[np.concatenate([[True], both[1:] != both[:-1]])] if len(both) else both
    return np.stack([both >> 32, both & 0xFFFFFFFF], 1)


def similarities(pairs: npt.NDArray[np.int64], rows: Indices, texts: list[str]) -> npt.NDArray[np.float64]:
    """(pairs,): the Jaccard similarity of two rows' shingles.

    Args:
        pairs: (pairs, 2) rows.
        rows: the rows that stand in pairs, ascending.
        texts: the text of each.
    """
    hashes, offsets = distinct(*shingles_of(tokenise(texts)))
    places = np.searchsorted(rows, pairs)
    parts = [_similar(hashes, offsets, places[i : i + PAIRS_AT_ONCE]) for i in range(0, len(places), PAIRS_AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty(0)


def _similar(hashes: Hashes, offsets: Offsets, places: Any) -> npt.NDArray[np.float64]:
    sizes = np.diff(offsets)[places]  # (pairs, 2)
    total = sizes.sum(axis=1)
    numbers = np.repeat(np.arange(len(places), dtype=np.uint64), total)
    starts = offsets[:-1][places].reshape(-1)
    lengths = sizes.reshape(-1)
    ends = np.cumsum(lengths)
    which = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
    with np.errstate(over="ignore"):
        keyed = hashes[which] ^ mix(numbers + np.uint64(1))  # a shingle of one pair is none of another
    order = np.argsort(keyed)
    is_shared = keyed[order][1:] == keyed[order][:-1]
    shared = np.bincount(numbers[order[1:][is_shared]].astype(np.int64), minlength=len(places))
    union = total - shared
    found: npt.NDArray[np.float64] = np.divide(shared, union, out=np.ones(len(places)), where=union > 0)
    return found
