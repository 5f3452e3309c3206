"""The shared segmentation (tasks/records/segmentation.py) of many texts at once, as hashes in one array.

Word by word in Python it would be most of the cost of curation; vectorised over the code points of ten thousand rows it is a few
passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import regex

from tasks.records.segmentation import SYMBOLS, nfkc

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"
CHARACTERS_AT_ONCE = 250_000
"""Small enough for the processor's cache: six times as fast as millions at once."""

_BREAK, _WORD, _DIGIT, _CHARACTER, _APOSTROPHE, _SYMBOL, _MINUS, _POINT = range(8)

# odd constants of the 64-bit finaliser of MurmurHash3 and of SplitMix64
_K1, _K2, _K3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Tokens:
    """Tokens of many texts, concatenated."""

    hashes: Hashes
    """(tokens,): equal tokens have equal hashes, on any machine."""
    offsets: Offsets
    """(texts + 1,): text i holds hashes[offsets[i]:offsets[i + 1]]."""

    def counts(self) -> Offsets:
        """(texts,): tokens of each text."""
        counts: Offsets = np.diff(self.offsets)
        return counts


def tokenise(texts: Sequence[str], with_symbols: bool = False) -> Tokens:
    """The texts' tokens, those of `tasks.records.segmentation.segment`, or of `segment_with_symbols`."""
    folded = [t.lower() if t.isascii() else nfkc(t).lower() for t in texts]
    ends = np.cumsum([0, *map(len, folded)])
    hashes, counts = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    first = 0
    while first < len(folded):
        last = max(int(np.searchsorted(ends, ends[first] + CHARACTERS_AT_ONCE)), first + 1)
        bounds = ends[first : last + 1] - ends[first]
        points = np.frombuffer("".join(folded[first:last]).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        inside, starts = _bounds_of_tokens(points, bounds, with_symbols)
        hashes.append(_hash_tokens(points, inside, starts))
        counts.append(np.diff(np.concatenate([[0], np.cumsum(starts)])[bounds]))
        first = last
    return Tokens(np.concatenate(hashes), np.cumsum(np.concatenate(counts)))


def mix(values: Any) -> Hashes:
    """64-bit hashes of 64-bit numbers: SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _K2
        values = (values ^ (values >> np.uint64(27))) * _K3
        mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


def _bounds_of_tokens(
    points: npt.NDArray[np.uint32], bounds: Offsets, with_symbols: bool
) -> tuple[npt.NDArray[np.bool_], ...]:
    """(code points,) does it belong to a token, and does it start one?"""
    kinds = _kinds()[points]
    begins_text = np.zeros(len(points) + 1, np.bool_)
    begins_text[bounds] = True
    is_digit = kinds == _DIGIT
    is_word = is_digit | (kinds == _WORD)
    after_word, before_word = _shifted(is_word, begins_text)
    is_alone = kinds == _CHARACTER
    if with_symbols:
        after_digit, before_digit = _shifted(is_digit, begins_text)
        is_alone |= kinds == _SYMBOL
        is_alone |= (kinds == _MINUS) & before_digit & ~after_word
        is_alone |= (kinds == _POINT) & before_digit & (after_digit | ~after_word)
    is_word |= (kinds == _APOSTROPHE) & after_word & before_word
    continues = _shifted(is_word, begins_text)[0] & is_word
    return is_word | is_alone, is_alone | (is_word & ~continues)


def _shifted(marks: npt.NDArray[np.bool_], begins_text: Any) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(code points,) is the previous one in its text marked, and is the next one?"""
    before, after = np.zeros_like(marks), np.zeros_like(marks)
    before[1:] = marks[:-1]
    after[:-1] = marks[1:]
    return before & ~begins_text[:-1], after & ~begins_text[1:]


def _hash_tokens(points: npt.NDArray[np.uint32], inside: Any, starts: Any) -> Hashes:
    """A hash per token: the sum of its characters' hashes, each mixed with its position in the token."""
    letters = points[inside].astype(np.uint64)
    first = np.flatnonzero(starts[inside])
    if not len(first):
        return np.empty(0, np.uint64)
    lengths = np.diff(np.concatenate([first, [len(letters)]]))
    positions = (np.arange(len(letters), dtype=np.int64) - np.repeat(first, lengths)).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = mix(letters * _K1 + (positions + np.uint64(1)) * _K3)
        return mix(np.add.reduceat(mixed, first))


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """(0x110000,) the kind of each code point."""
    kinds = np.zeros(0x110000, np.uint8)
    numbers = np.concatenate([np.arange(0xD800), np.arange(0xE000, 0x110000)]).astype("<u4")
    all_characters = numbers.tobytes().decode("utf-32-le")
    patterns = (  # a later one overrides an earlier one: radicals are symbols, and Chinese
        (_SYMBOL, rf"[{SYMBOLS}]"),
        (_WORD, rf"[^\W{_CJK}_]"),
        (_DIGIT, r"\p{Nd}"),
        (_CHARACTER, rf"[{_CJK}]"),
        (_APOSTROPHE, "['’]"),
        (_MINUS, "-"),
        (_POINT, r"\."),
    )
    for kind, pattern in patterns:
        characters = "".join(regex.findall(pattern, all_characters, regex.VERSION1))
        kinds[np.frombuffer(characters.encode("utf-32-le"), dtype=np.uint32)] = kind
    return kinds
