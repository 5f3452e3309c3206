"""A pool of instructions that finds those similar to a new one: ROUGE-L over the shared segmentation. Pure.

Only texts that could reach the threshold are compared: the number of common tokens (from an inverted index) is an upper bound of
the longest common subsequence. So a pool of 50,000 texts is searched in milliseconds.
"""

from __future__ import annotations

from array import array
from collections import Counter

import numpy as np
from rapidfuzz.distance import LCSseq

from tasks.records.segmentation import segment


class Pool:
    def __init__(self, threshold: float) -> None:
        """Args: threshold: the ROUGE-L (F1, 0 to 1) from which on two texts are similar."""
        self.threshold = threshold
        self._tokens: list[list[str]] = []
        self._lengths = array("I")
        self._texts_with: dict[str, tuple[array[int], array[int]]] = {}
        """Token → the texts with this token, and its number of occurrences in each."""

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, text: str) -> None:
        tokens = segment(text)
        for token, count in Counter(tokens).items():
            texts, counts = self._texts_with.setdefault(token, (array("I"), array("I")))
            texts.append(len(self._tokens))
            counts.append(count)
        self._tokens.append(tokens)
        self._lengths.append(len(tokens))

    def has_similar(self, text: str) -> bool:
        """Whether the ROUGE-L of the text with a text of the pool is at least the threshold; never for a text without tokens."""
        tokens = segment(text)
        if not tokens or not self._tokens:
            return False
        shared = np.zeros(len(self._tokens), dtype=np.int64)
        for token, count in Counter(tokens).items():
            if token in self._texts_with:
                texts, counts = self._texts_with[token]
                shared[np.frombuffer(texts, np.uint32)] += np.minimum(np.frombuffer(counts, np.uint32), count)
        # F1 = 2 · LCS / (sum of the lengths), and the LCS is at most the number of common tokens
        needed = self.threshold * (np.frombuffer(self._lengths, np.uint32) + len(tokens)) / 2
        near = np.flatnonzero(shared >= needed - 1e-9)
        return any(LCSseq.similarity(tokens, self._tokens[i]) >= needed[i] - 1e-9 for i in near)
