"""Passages that a training row shares with a held-out one. Pure; a candidate is proved on the texts.

What must not overlap is decided between sides: training rows of this batch against every held-out row before and in it, and
its held-out rows against every training row before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.known import HELD_OUT, NOWHERE, TRAIN, Known
from tasks.curate.near import distinct_pairs, may_stand_in
from tasks.curate.sketch import passages_of
from tasks.curate.sketch_file import Indices
from tasks.curate.tokens import tokenise

Prints = npt.NDArray[np.uint32]


def candidate_overlaps(known: Known, first_new: int, common_rows: int) -> npt.NDArray[np.int64]:
    """(pairs, 2): a training row and a held-out row that share a fingerprint, one of them new.

    Args:
        common_rows: a fingerprint of more rows than this is boilerplate.
    """
    prints, owners = _of_interest(known, first_new)
    starts = (
        np.flatnonzero(np.concatenate([[True], prints[1:] != prints[:-1]])) if len(prints) else np.empty(0, np.int64)
    )
    ends = np.concatenate([starts[1:], [len(prints)]])
    is_train = known.side[owners] == TRAIN
    is_held = np.isin(known.side[owners], HELD_OUT)
    train = _sums(is_train, starts, ends)
    held = _sums(is_held, starts, ends)
    groups = np.flatnonzero((ends - starts <= common_rows) & (train > 0) & (held > 0))
    pairs = [
        _cross(owners[starts[g] : ends[g]], is_train[starts[g] : ends[g]], is_held[starts[g] : ends[g]]) for g in groups
    ]
    if not pairs:
        return np.empty((0, 2), np.int64)
    found = distinct_pairs(np.concatenate(pairs))
    return found[(found >= first_new).any(axis=1)]


def share_a_passage(pairs: npt.NDArray[np.int64], rows: Indices, texts: list[str]) -> npt.NDArray[np.bool_]:
    """(pairs,): do the two rows share a run of PASSAGE_TOKENS tokens?

    Args:
        pairs: (pairs, 2) rows.
        rows: the rows that stand in pairs, ascending.
        texts: the text of each.
    """
    tokens = tokenise(texts)
    passages: dict[int, set[int]] = {}

    def of(place: int) -> set[int]:
        if place not in passages:
            passages[place] = passages_of(tokens, place)
        return passages[place]

    places = np.searchsorted(rows, pairs).tolist()
    return np.array([not of(first).isdisjoint(of(second)) for first, second in places], np.bool_)


def _of_interest(known: Known, first_new: int) -> tuple[Prints, Indices]:
    """The fingerprints that stand in a new row, sorted, with all rows that hold them, each row once a fingerprint."""
    begin = int(known.offsets[first_new])
    old = np.flatnonzero(may_stand_in(known.prints[:begin], known.prints[begin:]))
    new = np.unique(known.prints[begin:])
    if len(old):
        found = known.prints[old]
        old = old[new[np.minimum(np.searchsorted(new, found), len(new) - 1)] == found]
    prints = np.concatenate([known.prints[old], known.prints[begin:]])
    news = np.repeat(np.arange(first_new, len(known)), np.diff(known.offsets[first_new:]))
    owners = np.concatenate([known.owners_of(old), news])
    is_there = (known.side[owners] != NOWHERE) & ~known.is_ghost[owners]
    both = prints[is_there].astype(np.uint64) << np.uint64(32) | owners[is_there].astype(np.uint64)
    both.sort()  # np.unique would hash first, and take ten times as long
    both = both[np.concatenate([[True], both[1:] != both[:-1]])] if len(both) else both
    return (both >> np.uint64(32)).astype(np.uint32), (both & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _sums(marks: npt.NDArray[np.bool_], starts: Indices, ends: Indices) -> Indices:
    total = np.concatenate([[0], np.cumsum(marks)])
    found: Indices = total[ends] - total[starts]
    return found


def _cross(owners: Indices, is_train: Any, is_held: Any) -> npt.NDArray[np.int64]:
    train, held = owners[is_train], owners[is_held]
    return np.stack([np.repeat(train, len(held)), np.tile(held, len(train))], 1)
