"""Duplicates and near-duplicates of a batch's rows among all rows before them. Pure; a candidate is proved on the texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.dedup.index import MOST_ROWS, Entries, are_among, hashes_of, is_first, rows_of
from tasks.curate.dedup.known import Known, band_entries, high_bits
from tasks.curate.dedup.minhash import BANDS, Bands, distinct, shingles_of
from tasks.curate.dedup.sketch_file import Indices
from tasks.curate.dedup.tokens import Hashes, Offsets, mix, tokenise

PAIRS_AT_ONCE = 20_000
HASHES_AT_ONCE = 1 << 20


def leaders_of_duplicates(known: Known, first_new: int) -> Indices:
    """For each new row the first row with the same content; -1 where it is the first, or counts no more.

    Args:
        first_new: the number of the first new row; those before are in the index.
    """
    leaders = np.full(len(known) - first_new, -1, np.int64)
    new = first_new + np.flatnonzero(known.is_held(np.arange(first_new, len(known))))
    if not len(new):
        return leaders
    keys, keys2 = known.rows["key"], known.rows["key2"]
    wanted = np.sort(high_bits(keys[new]).astype(np.uint64))
    old, _ = known.by_content.all_of(wanted[is_first(wanted)], most=MOST_ROWS)
    rows = np.concatenate([np.sort(rows_of(old)), new])
    order = rows[np.lexsort((rows, keys2[rows], keys[rows]))]
    starts = is_first(keys[order]) | is_first(keys2[order])
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    is_led = ~starts & (order >= first_new)
    leaders[order[is_led] - first_new] = first[is_led]
    return leaders


def conflicting_pairs(known: Known, first_new: int) -> list[tuple[int, int]]:
    """Each earlier row and new one of one source with the same prompt; duplicates are dropped by now, so that their answers differ.

    Args:
        first_new: the number of the first new row; those before are in the index.
    """
    prompts = known.rows["prompt"]
    new = first_new + np.flatnonzero(known.is_held(np.arange(first_new, len(known))) & (prompts[first_new:] != 0))
    wanted = np.sort(high_bits(prompts[new]).astype(np.uint64))
    old, _ = known.by_prompt.all_of(wanted[is_first(wanted)], most=MOST_ROWS)
    rows: dict[int, list[int]] = {}
    found = []
    for row in [*np.sort(rows_of(old)).tolist(), *new.tolist()]:
        same = rows.setdefault(int(prompts[row]), [])
        found += [(each, row) for each in same if row >= first_new]
        same.append(row)
    return found


def candidate_pairs(known: Known, first_new: int, bands: Bands) -> npt.NDArray[np.int64]:
    """(pairs, 2): an earlier row, and a new one that shares a band with it.

    In a bucket of a band, a row is compared with the first there and with the one before it: all pairs of a large bucket would
    be too many, and the first leads.

    Args:
        first_new: the number of the first new row; those before are in the index.
        bands: (new rows, BANDS).
    """
    new = np.flatnonzero(known.is_somewhere(np.arange(first_new, len(known))))
    at_once = max(1, min(BANDS, HASHES_AT_ONCE // max(len(new), 1)))
    found = [np.empty((0, 2), np.int64)]
    for first_band in range(0, BANDS, at_once):
        some = np.arange(first_band, min(first_band + at_once, BANDS))
        rows, numbers = np.repeat(new, len(some)), np.tile(some, len(new))
        has_one = bands[rows, numbers] != 0
        entries = np.sort(band_entries(bands, rows[has_one], numbers[has_one], first_new))
        found += _pairs_in_buckets(known, entries)
    return distinct_pairs(np.concatenate(found))


def rows_alike(known: Known, first_new: int, bands: Bands, new: Indices, most: int) -> Indices:
    """Earlier rows that share a band with some new ones, up to `most` a bucket: what these have in common is a fixed part.

    Args:
        first_new: the number of the first new row; those before are in the index.
        bands: (new rows, BANDS).
        new: (rows,) new rows.
    """
    rows, numbers = np.repeat(new - first_new, BANDS), np.tile(np.arange(BANDS), len(new))
    has_one = bands[rows, numbers] != 0
    hashes = np.sort(hashes_of(band_entries(bands, rows[has_one], numbers[has_one], first_new)))
    return known.by_band.some_of(hashes[is_first(hashes)], most, known.taken_out)


def _pairs_in_buckets(known: Known, entries: Entries) -> list[npt.NDArray[np.int64]]:
    """Each new row with the first of its bucket, and with the one before it."""
    hashes, rows = hashes_of(entries), rows_of(entries)
    starts = is_first(hashes)
    buckets = np.cumsum(starts) - 1
    first_old, last_old = (ends[buckets] for ends in known.by_band.ends(hashes[starts]))
    has_old = last_old >= 0
    first = np.where(has_old, first_old, rows[np.flatnonzero(starts)][buckets])
    before = np.where(starts, last_old, np.concatenate([[0], rows[:-1]]) if len(rows) else rows)
    is_led = has_old | ~starts
    return [np.stack([leader[is_led], rows[is_led]], 1) for leader in (first, before)]


def distinct_pairs(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The pairs in order, each once."""
    both = np.sort(pairs[:, 0] << 32 | pairs[:, 1])
    both = both[is_first(both)]
    return np.stack([both >> 32, both & 0xFFFFFFFF], 1)


class Shingles:
    """The shingles of some rows' texts.

    Args:
        rows: ascending.
        texts: the text of each.
    """

    def __init__(self, rows: Indices, texts: list[str]) -> None:
        self._rows = rows
        self._hashes, self._offsets = distinct(*shingles_of(tokenise(texts, with_symbols=True)))

    def compare(self, pairs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """(pairs,) the Jaccard similarity of two rows' shingles, and how many shingles one of them alone has."""
        places = np.searchsorted(self._rows, pairs)
        similar, alone = [np.zeros(0)], [np.zeros(0, np.int64)]
        for start in range(0, len(places), PAIRS_AT_ONCE):
            shared, union = _overlap(self._hashes, self._offsets, places[start : start + PAIRS_AT_ONCE])
            similar.append(np.divide(shared, union, out=np.ones(len(union)), where=union > 0))
            alone.append(union - shared)
        return np.concatenate(similar), np.concatenate(alone)

    def shared(self, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(pairs,) how many shingles the two rows share."""
        places = np.searchsorted(self._rows, pairs)
        parts = range(0, len(places), PAIRS_AT_ONCE)
        shared = [_overlap(self._hashes, self._offsets, places[start : start + PAIRS_AT_ONCE])[0] for start in parts]
        return np.concatenate([np.zeros(0, np.int64), *shared])

    def leave_out_common(self, most: int, answers: list[str]) -> npt.NDArray[np.bool_]:
        """Leaves out the shingles that more than `most` rows have: a fixed part of their texts.

        Args:
            answers: of each row.

        Returns:
            (rows,): has the row a fixed part that rows with other answers have, too? So what is behind it decides.
        """
        owners = np.repeat(np.arange(len(answers)), np.diff(self._offsets))
        known: dict[str, int] = {}
        numbers = np.array([known.setdefault(answer, len(known)) for answer in answers], np.int64)[owners]
        order = np.lexsort((numbers, self._hashes))
        hashes, numbers = self._hashes[order], numbers[order]
        starts = np.flatnonzero(is_first(hashes))
        ends = np.append(starts, len(hashes))[1:]
        is_common = ends - starts > most
        has_several = is_common & (numbers[starts] != numbers[ends - 1])
        found = np.zeros(len(answers), np.bool_)
        if has_several.any():
            found[owners[are_among(self._hashes, hashes[starts][has_several])]] = True
        if is_common.any():
            is_kept = ~are_among(self._hashes, hashes[starts][is_common])
            counts = np.concatenate([[0], np.cumsum(is_kept)])
            self._hashes, self._offsets = self._hashes[is_kept], counts[self._offsets]
        return found


def _overlap(hashes: Hashes, offsets: Offsets, places: Any) -> tuple[Any, Any]:
    """(pairs,) how many shingles the two rows share, and how many they have together."""
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
    return shared, total - shared
