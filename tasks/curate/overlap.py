"""Passages that a training row shares with a held-out one. Pure; a candidate is proved on the texts.

What must not overlap is decided between sides: training rows of this batch against every held-out row before and in it, and
its held-out rows against every training row before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.index import Entries, are_among, entries_of, hashes_of, is_first, rows_of, sorted_once
from tasks.curate.known import HELD_OUT, TRAIN, Known
from tasks.curate.near import distinct_pairs
from tasks.curate.sketch import passages_of
from tasks.curate.sketch_file import Indices, Sketch
from tasks.curate.tokens import tokenise


def candidate_overlaps(known: Known, first_new: int, sketch: Sketch, common_rows: int) -> npt.NDArray[np.int64]:
    """(pairs, 2): a training row and a held-out row that share a fingerprint, one of them new.

    Args:
        first_new: the number of the first new row; those before are in the index.
        sketch: of the new rows.
        common_rows: a fingerprint of more rows than this is boilerplate.
    """
    entries = _of_interest(known, first_new, sketch, common_rows)
    prints, owners = hashes_of(entries), rows_of(entries)
    starts = np.flatnonzero(is_first(prints))
    ends = np.concatenate([starts[1:], [len(prints)]])[: len(starts)]
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


def _of_interest(known: Known, first_new: int, sketch: Sketch, common_rows: int) -> Entries:
    """The fingerprints that stand in a new row with all rows that hold them, each row once a fingerprint.

    One that stands in more than `common_rows` earlier rows is left out: they would be too many to go through for each batch.
    """
    owners = np.repeat(np.arange(first_new, len(known)), np.diff(sketch.offsets()))
    is_there = known.is_held(owners)
    new = sorted_once(entries_of(sketch.prints[is_there], owners[is_there]))
    prints = hashes_of(new)
    old, common = known.by_passage.all_of(prints[is_first(prints)], most=common_rows + known.taken_out)
    if len(common):
        new = new[~are_among(prints, common)]
    return sorted_once(np.concatenate([old, new]))


def _sums(marks: npt.NDArray[np.bool_], starts: Indices, ends: Indices) -> Indices:
    total = np.concatenate([[0], np.cumsum(marks)])
    found: Indices = total[ends] - total[starts]
    return found


def _cross(owners: Indices, is_train: Any, is_held: Any) -> npt.NDArray[np.int64]:
    train, held = owners[is_train], owners[is_held]
    return np.stack([np.repeat(train, len(held)), np.tile(held, len(train))], 1)
