"""Measures of a column of texts: a number or a truth a text. Arrow where it can, Python on the texts that need it. Pure.

A cheap bound decides most texts; only the others are segmented. What a measure says never depends on which way it went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.records.segmentation import segment

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]

SURELY_TEXT = r"[!-~\pL\pN]"
ASCII_SEGMENT = "[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*"
"""What tasks.records.segmentation.segment finds in ASCII, in the words of RE2."""
MOST_OF_ONE = 18
"""NFKC makes at most so many characters of one,"""
MAY_GROW = (
    r"[\x{A8}-\x{BE}\x{132}-\x{149}\x{1C4}-\x{1F3}\x{2D8}-\x{2DD}\x{344}-\x{385}\x{587}-\x{5FF}\x{675}-\x{678}\x{900}-\x{FFF}"
    r"\x{1E9A}-\x{1E9B}\x{1FBD}-\x{24FF}\x{2A00}-\x{2AFF}\x{3099}-\x{309F}\x{30FF}\x{3200}-\x{33FF}\x{FB00}-\x{FEFF}\x{FFE3}"
    r"\x{1D100}-\x{1D1FF}\x{1F100}-\x{1F2FF}]"
)
"""and only of one of these more than one."""


def column(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    """A column of texts in one piece; a text that is not there is empty."""
    found = table.column(name)
    if isinstance(found, pa.ChunkedArray):
        found = found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()
    return found.fill_null("") if found.null_count else found


def truths(values: pa.Array) -> Mask:
    """Arrow's truths as numpy's; one that is not there is false."""
    mask: Mask = values.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def numbers(values: pa.Array) -> Counts:
    counts: Counts = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return counts


def fill_in(into: NDArray[Any], where: Mask, texts: pa.Array, measure: Callable[[str], Any]) -> None:
    """Measures in Python the texts that are asked for."""
    places = np.flatnonzero(where)
    if len(places):
        into[places] = [measure(text) for text in texts.take(pa.array(places)).to_pylist()]


def is_ascii(texts: pa.Array) -> Mask:
    return truths(pc.string_is_ascii(texts))


def has_text(texts: pa.Array) -> Mask:
    """Is there anything but white space?"""
    found = truths(pc.match_substring_regex(texts, SURELY_TEXT))
    fill_in(found, ~found, texts, lambda text: bool(text.strip()))
    return found


def characters_of(texts: pa.Array) -> Counts:
    return numbers(pc.utf8_length(texts))


def segments_of(texts: pa.Array) -> Counts:
    """Segments of each text (words, or Chinese characters); one at least, where there is any text."""
    plain = is_ascii(texts)
    counts = np.zeros(len(texts), dtype=np.int64)
    counts[plain] = numbers(pc.count_substring_regex(texts.filter(pa.array(plain)), ASCII_SEGMENT))
    fill_in(counts, ~plain, texts, lambda text: len(segment(text)))
    return np.maximum(counts, has_text(texts).astype(np.int64))


def has_at_most(texts: pa.Array, most: int) -> Mask:
    """Has the text at most so many segments?"""
    characters = characters_of(texts)
    plain = is_ascii(texts)
    bound = np.where(plain, (characters + 1) // 2, characters * MOST_OF_ONE)
    unsure = ~plain & (bound > most) & (characters <= most)
    if unsure.any():
        places = np.flatnonzero(unsure)
        grows = truths(pc.match_substring_regex(texts.take(pa.array(places)), MAY_GROW))
        bound[places] = np.where(grows, bound[places], np.maximum(characters[places], 1))
    return _decided(bound <= most, texts, lambda unsure: segments_of(unsure) <= most)


def has_at_least(texts: pa.Array, least: int) -> Mask:
    """Has the text at least so many segments?"""
    if least == 0:
        return np.ones(len(texts), dtype=np.bool_)
    if least == 1:
        return has_text(texts)
    beginning = pc.utf8_slice_codeunits(texts, 0, 16 * least)
    return _decided(segments_of(beginning) >= least, texts, lambda unsure: segments_of(unsure) >= least)


def _decided(sure: Mask, texts: pa.Array, measure: Callable[[pa.Array], Mask]) -> Mask:
    """`sure`, and what the measure says of the texts of which the bound says nothing."""
    places = np.flatnonzero(~sure)
    if len(places):
        sure[places] = measure(texts.take(pa.array(places)))
    return sure


def is_first(values: pa.Array) -> Mask:
    """Does the value stand here for the first time? What is not there stands nowhere twice."""
    first = np.ones(len(values), dtype=np.bool_)
    places = np.flatnonzero(truths(values.is_valid()))
    if len(places):
        # arrow numbers values in the order in which it first meets them
        codes = values.drop_null().dictionary_encode().indices.to_numpy()
        first[places[1:]] = codes[1:] > np.maximum.accumulate(codes)[:-1]
    return first
