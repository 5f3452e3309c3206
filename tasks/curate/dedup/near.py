"""Duplicates and near-duplicates of a batch's rows among all rows before them. Pure; candidates are verified on the texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.dedup.index import MOST_ROWS, Entries, Indices, hashes_of, is_first, is_in_sorted, rows_of
from tasks.curate.dedup.known import RowTable, band_entries, high_bits
from tasks.curate.dedup.minhash import BANDS, Bands, distinct, shingles_of
from tasks.curate.dedup.tokens import Hashes, Offsets, mix, tokenise

PAIRS_AT_ONCE = 20_000
HASHES_AT_ONCE = 1 << 20


def duplicate_representatives(table: RowTable) -> Indices:
    """(new rows,) the first row with the same content; -1 for a first row, and for a row that is not active."""
    first_new = table.first_new
    representatives = np.full(len(table) - first_new, -1, np.int64)
    new = first_new + np.flatnonzero(table.is_active(np.arange(first_new, len(table))))
    if not len(new):
        return representatives
    keys, keys2 = table.rows["key"], table.rows["key2"]
    hashes = np.sort(high_bits(keys[new]).astype(np.uint64))
    old, _ = table.by_content.all_of(hashes[is_first(hashes)], most=MOST_ROWS)
    rows = np.concatenate([np.sort(rows_of(old)), new])
    order = rows[np.lexsort((rows, keys2[rows], keys[rows]))]
    starts = is_first(keys[order]) | is_first(keys2[order])
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    follows_another = ~starts & (order >= first_new)
    representatives[order[follows_another] - first_new] = first[follows_another]
    return representatives


def conflicting_pairs(table: RowTable) -> list[tuple[int, int]]:
    """Pairs of an earlier row and a new one of one source with the same prompt. Duplicates were dropped: the answers differ."""
    prompts, first_new = table.rows["prompt"], table.first_new
    new = first_new + np.flatnonzero(table.is_active(np.arange(first_new, len(table))) & (prompts[first_new:] != 0))
    hashes = np.sort(high_bits(prompts[new]).astype(np.uint64))
    old, _ = table.by_prompt.all_of(hashes[is_first(hashes)], most=MOST_ROWS)
    rows: dict[int, list[int]] = {}
    pairs = []
    for row in [*np.sort(rows_of(old)).tolist(), *new.tolist()]:
        same = rows.setdefault(int(prompts[row]), [])
        pairs += [(earlier, row) for earlier in same if row >= first_new]
        same.append(row)
    return pairs


def candidate_pairs(table: RowTable, bands: Bands) -> npt.NDArray[np.int64]:
    """(pairs, 2): an earlier row, and a new one that shares one of its `bands` (new rows, BANDS) with it.

    In a bucket of a band, a row is compared with the first row and with the one before it: all pairs of a large bucket would be too
    many, and the first row is the cluster representative.
    """
    new = np.flatnonzero(table.has_split(np.arange(table.first_new, len(table))))
    bands_at_once = max(1, min(BANDS, HASHES_AT_ONCE // max(len(new), 1)))
    pairs = [np.empty((0, 2), np.int64)]
    for first_band in range(0, BANDS, bands_at_once):
        portion = np.arange(first_band, min(first_band + bands_at_once, BANDS))
        rows, numbers = np.repeat(new, len(portion)), np.tile(portion, len(new))
        exists = bands[rows, numbers] != 0
        entries = np.sort(band_entries(bands, rows[exists], numbers[exists], table.first_new))
        pairs += _pairs_in_buckets(table, entries)
    return distinct_pairs(np.concatenate(pairs))


def rows_alike(table: RowTable, bands: Bands, new: Indices, most: int) -> Indices:
    """Earlier rows that share a band (of all new rows: `bands`) with the rows `new`, up to `most` per bucket: text that they have
    in common is a fixed part."""
    rows, numbers = np.repeat(new - table.first_new, BANDS), np.tile(np.arange(BANDS), len(new))
    exists = bands[rows, numbers] != 0
    hashes = np.sort(hashes_of(band_entries(bands, rows[exists], numbers[exists], table.first_new)))
    return table.by_band.first_rows(hashes[is_first(hashes)], most, table.removed)


def _pairs_in_buckets(table: RowTable, entries: Entries) -> list[npt.NDArray[np.int64]]:
    """Each new row with the first row of its bucket, and with the one before it."""
    hashes, rows = hashes_of(entries), rows_of(entries)
    starts = is_first(hashes)
    buckets = np.cumsum(starts) - 1
    first_old, last_old = (ends[buckets] for ends in table.by_band.ends(hashes[starts]))
    has_old = last_old >= 0
    first = np.where(has_old, first_old, rows[np.flatnonzero(starts)][buckets])
    before = np.where(starts, last_old, np.concatenate([[0], rows[:-1]]) if len(rows) else rows)
    follows_another = has_old | ~starts
    return [np.stack([representative[follows_another], rows[follows_another]], 1) for representative in (first, before)]


def distinct_pairs(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The pairs in order, each once."""
    keys = np.sort(pairs[:, 0] << 32 | pairs[:, 1])
    keys = keys[is_first(keys)]
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], 1)


class Shingles:
    """The sets of shingles of the texts of some rows, ascending."""

    def __init__(self, rows: Indices, texts: list[str]) -> None:
        self._rows = rows
        self._hashes, self._offsets = distinct(*shingles_of(tokenise(texts, with_symbols=True)))

    def compare(self, pairs: npt.NDArray[np.int64]) -> tuple[Indices, Indices]:
        """(pairs,) how many shingles the two rows share, and how many they have together."""
        numbers = np.searchsorted(self._rows, pairs)
        parts = [np.zeros((2, 0), np.int64)]
        for start in range(0, len(numbers), PAIRS_AT_ONCE):
            parts.append(np.stack(_overlap(self._hashes, self._offsets, numbers[start : start + PAIRS_AT_ONCE])))
        shared, union = np.concatenate(parts, axis=1)
        return shared, union

    def remove_common(self, most: int, answers: list[str]) -> npt.NDArray[np.bool_]:
        """Removes the shingles that more than `most` rows have: a fixed part of their texts. Returns (rows,): does the row have a
        fixed part that rows with other answers have too? Then the rest of its text is decisive."""
        owners = np.repeat(np.arange(len(answers)), np.diff(self._offsets))
        answer_numbers: dict[str, int] = {}
        of_rows = [answer_numbers.setdefault(answer, len(answer_numbers)) for answer in answers]
        numbers = np.array(of_rows, np.int64)[owners]
        order = np.lexsort((numbers, self._hashes))
        hashes, numbers = self._hashes[order], numbers[order]
        starts = np.flatnonzero(is_first(hashes))
        ends = np.append(starts, len(hashes))[1:]
        is_common = ends - starts > most
        has_several = is_common & (numbers[starts] != numbers[ends - 1])
        has_fixed_part = np.zeros(len(answers), np.bool_)
        if has_several.any():
            has_fixed_part[owners[is_in_sorted(self._hashes, hashes[starts][has_several])]] = True
        if is_common.any():
            is_rare = ~is_in_sorted(self._hashes, hashes[starts][is_common])
            counts = np.concatenate([[0], np.cumsum(is_rare)])
            self._hashes, self._offsets = self._hashes[is_rare], counts[self._offsets]
        return has_fixed_part


def jaccard(shared: Indices, union: Indices) -> npt.NDArray[np.float64]:
    """(pairs,) the similarity of two rows; 1 where both have no shingles."""
    return np.divide(shared, union, out=np.ones(len(union)), where=union > 0)


def _overlap(hashes: Hashes, offsets: Offsets, pair_rows: Any) -> tuple[Any, Any]:
    """(pairs,) the sizes of the intersection and of the union of the two rows' shingles."""
    sizes = np.diff(offsets)[pair_rows]  # (pairs, 2)
    total = sizes.sum(axis=1)
    pair_numbers = np.repeat(np.arange(len(pair_rows), dtype=np.uint64), total)
    starts = offsets[:-1][pair_rows].reshape(-1)
    lengths = sizes.reshape(-1)
    ends = np.cumsum(lengths)
    indices = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
    with np.errstate(over="ignore"):
        keyed = hashes[indices] ^ mix(pair_numbers + np.uint64(1))  # shingles of different pairs differ
    order = np.argsort(keyed)
    is_shared = keyed[order][1:] == keyed[order][:-1]
    shared = np.bincount(pair_numbers[order[1:][is_shared]].astype(np.int64), minlength=len(pair_rows))
    return shared, total - shared
