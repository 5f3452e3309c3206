"""Pairs of rows that may share text, and the fingerprints that do not count for them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.curate.dedup.index import is_first
from tasks.curate.dedup.tokens import Hashes

Pairs = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    pairs: Pairs
    """(pairs, 2): an earlier row and a later one that share a fingerprint."""
    is_rare: Marks
    """(pairs,): few rows hold the fingerprint, so that a short run counts."""

    def part(self, start: int, size: int) -> Candidates:
        return Candidates(self.pairs[start : start + size], self.is_rare[start : start + size])

    def chosen(self, are_chosen: Marks) -> Candidates:
        return Candidates(self.pairs[are_chosen], self.is_rare[are_chosen])

    def with_more(self, pairs: Pairs) -> Candidates:
        """With further pairs, whose runs many rows hold."""
        is_rare = np.concatenate([self.is_rare, np.zeros(len(pairs), np.bool_)])
        return Candidates(np.concatenate([self.pairs, pairs]), is_rare)


@dataclass(frozen=True)
class FixedParts:
    """Fingerprints that many rows have in common, ascending: a run that holds one of them does not link two rows."""

    fingerprints: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    templates: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """Those of them that count as a template however long the run is."""
    with_protected: FixedParts | None = None
    """A larger set for pairs with a golden or benchmark row: such a pair costs a training row."""

    def of_pairs(self, has_protected: bool) -> FixedParts:
        return self.with_protected or self if has_protected else self

    @property
    def is_empty(self) -> bool:
        return not len(self.of_pairs(True).fingerprints)


def distinct_candidates(pairs: Pairs, is_rare: Marks) -> Candidates:
    """The pairs in order, each once; rare where one of the equal ones is."""
    keys = np.sort((pairs[:, 0] << 32 | pairs[:, 1]) << 1 | ~is_rare)
    keys = keys[is_first(keys >> 1)]  # of equal pairs, a rare one is first
    return Candidates(np.stack([keys >> 33, keys >> 1 & 0xFFFFFFFF], 1), keys & 1 == 0)
