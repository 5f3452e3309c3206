"""MinHash signatures for near-duplicates, and fingerprints for shared text. Pure.

Near-duplicates: Jaccard similarity of the texts' sets of three-token shingles, by MinHash with banding (Broder 1997; Leskovec,
Rajaraman, Ullman, Mining of Massive Datasets, ch. 3). Passages: winnowing (Schleimer, Wilkerson, Aiken 2003), which detects every
run of 13 tokens that two texts share, with about one fingerprint per four tokens.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.dedup.index import distinct_by_owner, is_first
from tasks.curate.dedup.tokens import Hashes, Offsets, Tokens, mix

SHINGLE_TOKENS = 3
BANDS = 16
RECALL_AT_THRESHOLD = 0.95
PASSAGE_TOKENS = 13
"""Length of the shortest shared run that is detected (the GPT-3 paper, appendix C)."""
LONG_PASSAGE_TOKENS = 24
"""Length from which a shared run counts although many rows hold it. Formulas of courtesy are shorter."""
GRAM_TOKENS = 8
WINDOW_GRAMS = PASSAGE_TOKENS - GRAM_TOKENS + 1

Bands = npt.NDArray[np.uint32]
Fingerprints = npt.NDArray[np.uint32]


def shingles_of(tokens: Tokens) -> tuple[Hashes, Offsets]:
    """Each text's shingles with repetitions, as (hashes, offsets); a text shorter than a shingle is one shingle."""
    hashes, texts = grams_of(tokens, SHINGLE_TOKENS)
    counts = tokens.counts()
    short = np.flatnonzero((counts < SHINGLE_TOKENS) & (counts > 0))
    if len(short):
        first, last = tokens.offsets[:-1][short], tokens.offsets[1:][short] - 1
        with np.errstate(over="ignore"):
            whole = mix(tokens.hashes[first] * np.uint64(3) + tokens.hashes[last])
        hashes, texts = np.concatenate([hashes, whole]), np.concatenate([texts, short])
        order = np.argsort(texts, kind="stable")
        hashes, texts = hashes[order], texts[order]
    return hashes, np.searchsorted(texts, np.arange(len(tokens.offsets)))


def distinct(hashes: Hashes, offsets: Offsets) -> tuple[Hashes, Offsets]:
    """Each text's distinct hashes, sorted."""
    texts = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    texts, hashes = distinct_by_owner(texts, hashes)
    return hashes, np.searchsorted(texts, np.arange(len(offsets)))


def rows_in_band(threshold: float) -> int:
    """MinHash values per band: the most with which a pair at the threshold is still detected with RECALL_AT_THRESHOLD."""
    chance = 1 - (1 - RECALL_AT_THRESHOLD) ** (1 / BANDS)
    return max(int(math.log(chance) / math.log(threshold)), 1)


def bands_of(hashes: Hashes, offsets: Offsets, rows: int) -> Bands:
    """(texts, BANDS) a hash of the text's shingles per band, which has `rows` MinHash values: texts with an equal one may be
    near-duplicates; 0 for a text without shingles."""
    counts = np.diff(offsets)
    full = np.flatnonzero(counts)
    bands = np.zeros((len(counts), BANDS), np.uint32)
    if not len(full):
        return bands
    shingles = (hashes >> np.uint64(32)).astype(np.uint32)
    starts = offsets[:-1][full]
    multipliers, addends = _permutations(BANDS * rows)
    with np.errstate(over="ignore"):
        for band in range(BANDS):
            key = np.full(len(full), band + 1, np.uint64)
            for row in range(rows):
                permutation = band * rows + row
                permuted = shingles * multipliers[permutation] + addends[permutation]
                permuted ^= permuted >> np.uint32(15)
                permuted *= np.uint32(0x2C1B3C6D)
                key = mix(key * np.uint64(31) + np.minimum.reduceat(permuted, starts))
            bands[full, band] = (key >> np.uint64(32)).astype(np.uint32) | np.uint32(1)  # 0 means none
    return bands


def fingerprints_of(tokens: Tokens) -> tuple[Fingerprints, Offsets]:
    """Each text's fingerprints, as (hashes, offsets); none for a text shorter than a passage."""
    hashes, texts = grams_of(tokens, GRAM_TOKENS)
    if len(hashes) < WINDOW_GRAMS:
        return np.empty(0, np.uint32), np.zeros(len(tokens.offsets), np.int64)
    windows = len(hashes) - WINDOW_GRAMS + 1
    least = hashes[:windows].copy()
    for shift in range(1, WINDOW_GRAMS):
        np.minimum(least, hashes[shift : shift + windows], out=least)
    is_whole = texts[:windows] == texts[WINDOW_GRAMS - 1 :]
    least, owners = least[is_whole], texts[:windows][is_whole]
    is_new = is_first(least) | is_first(owners)
    return to_fingerprints(least[is_new]), np.searchsorted(owners[is_new], np.arange(len(tokens.offsets)))


def to_fingerprints(grams: Hashes) -> Fingerprints:
    """32 bits of each hash: not the upper ones, which the smallest hashes have in common."""
    return (grams >> np.uint64(16)).astype(np.uint32)


def append_fingerprints(
    fingerprints: Fingerprints, offsets: Offsets, more: list[list[int]]
) -> tuple[Fingerprints, Offsets]:
    """Each text's fingerprints, followed by its further ones (`more`)."""
    counts = np.array(list(map(len, more)), np.int64)
    added = np.fromiter(itertools.chain.from_iterable(more), np.uint32, int(counts.sum()))
    shifts = np.concatenate([[0], np.cumsum(counts)])
    return np.insert(fingerprints, np.repeat(offsets[1:], counts), added), offsets + shifts


def runs_of(tokens: Tokens, text: int, length: int) -> list[int]:
    """The hash of every run of `length` tokens in one text, in order."""
    first, last = int(tokens.offsets[text]), int(tokens.offsets[text + 1])
    of_text = Tokens(tokens.hashes[first:last], np.array([0, last - first]))
    runs: list[int] = grams_of(of_text, length)[0].tolist()
    return runs


def grams_of(tokens: Tokens, size: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """(runs,) the hash of every run of `size` tokens within a text, and (runs,) the number of its text."""
    count = len(tokens.hashes) - size + 1
    if count <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    texts = np.repeat(np.arange(len(tokens.offsets) - 1), tokens.counts())
    is_within = texts[:count] == texts[size - 1 :]
    with np.errstate(over="ignore"):
        hashes = np.zeros(count, np.uint64)
        for shift in range(size):
            hashes *= np.uint64(0x9E3779B97F4A7C15)
            hashes += tokens.hashes[shift : shift + count]
        return mix(hashes[is_within]), texts[:count][is_within]


def _permutations(count: int) -> tuple[Any, Any]:
    """Multipliers (odd) and addends of `count` hash functions; the same on every machine."""
    numbers = mix(np.arange(1, 2 * count + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03))
    drawn = (numbers >> np.uint64(32)).astype(np.uint32)
    return drawn[:count] | np.uint32(1), drawn[count:]
