"""A pool of instructions that tells whether a new one is too like an old one: ROUGE-L over the shared segmentation. Pure.

Only texts that could reach the threshold are compared: by how many tokens they share (an inverted index), which bounds
their longest common subsequence. So Chinese works, and a pool of 50,000 answers in milliseconds.
"""

from __future__ import annotations

from array import array
from collections import Counter

import numpy as np

from tasks.records.segmentation import segment


class Pool:
    def __init__(self, threshold: float) -> None:
        """Args: threshold: ROUGE-L (F1, 0 to 1) at which two texts are too alike."""
        self.threshold = threshold
        self._tokens: list[list[str]] = []
        self._lengths = array("I")
        self._holders: dict[str, tuple[array[int], array[int]]] = {}
        """Token → the texts that hold it, and how often each does."""

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, text: str) -> None:
        tokens = segment(text)
        for token, count in Counter(tokens).items():
            texts, counts = self._holders.setdefault(token, (array("I"), array("I")))
            texts.append(len(self._tokens))
            counts.append(count)
        self._tokens.append(tokens)
        self._lengths.append(len(tokens))

    def has_like(self, text: str) -> bool:
        """Is the ROUGE-L of the text with any in the pool at least the threshold? A text without tokens is like none."""
        tokens = segment(text)
        if not tokens or not self._tokens:
            return False
        shared = np.zeros(len(self._tokens), dtype=np.int64)
        for token, count in Counter(tokens).items():
            if token in self._holders:
                texts, counts = self._holders[token]
                shared[np.frombuffer(texts, np.uint32)] += np.minimum(np.frombuffer(counts, np.uint32), count)
        # F1 = 2 · LCS / (both lengths), and the LCS is at most the tokens shared
        needed = self.threshold * (np.frombuffer(self._lengths, np.uint32) + len(tokens)) / 2
        near = np.flatnonzero(shared >= needed - 1e-9)
        places = _places(tokens)
        return any(common_length(places, len(tokens), self._tokens[i]) >= needed[i] - 1e-9 for i in near)


def rouge_l(one: str, other: str) -> float:
    """ROUGE-L (F1) of two texts, from 0 to 1."""
    left, right = segment(one), segment(other)
    if not left or not right:
        return 0.0
    return 2 * common_length(_places(left), len(left), right) / (len(left) + len(right))


def _places(tokens: list[str]) -> dict[str, int]:
    """Token → a number whose bits are its places."""
    places: dict[str, int] = {}
    for place, token in enumerate(tokens):
        places[token] = places.get(token, 0) | 1 << place
    return places


def common_length(places: dict[str, int], length: int, other: list[str]) -> int:
    """The length of the longest common subsequence, a row of the table as one number (Hyyrö 2004)."""
    full = (1 << length) - 1
    row = full
    for token in other:
        matched = row & places.get(token, 0)
        row = (row + matched) | (row - matched)
        row &= full
    return length - row.bit_count()
