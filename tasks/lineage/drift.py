"""How far the data of one version have drifted from those of another: labels, lengths, words, languages, a family each. Pure.

Population stability index: sum of (q - p) ln(q / p) over the bins (Siddiqi, Credit Risk Scorecards, 2006); from 0.1 on it is a
minor shift, from 0.25 on a major one. Two samples of one population differ too: their index is then distributed as
(1/n + 1/m) chi-squared with a degree of freedom less than there are bins (Yurdakul and Naranjo 2020), so that a small family
passes 0.1 by chance. Jensen-Shannon divergence in bits, 0 to 1 (Lin 1991).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, rel_entr

from tasks.records.segmentation import segment

MOST_LABELS = 200
LEAST_ROWS_A_LABEL = 5
"""A family whose outputs repeat this often on average has labels."""
WORDS = 1_000
"""The most frequent words of the first version; all others are one bin."""
LEAST_OF_A_WORD = 5
"""A word that is rarer in the first version is among the others: no sample has the rare words of another."""
SMALLEST_SHARE = 1e-4
"""A bin that is empty on one side counts as this much, or the index would be infinite."""
MINOR, MAJOR = 0.1, 0.25
CHANCE = 0.99
"""An index below this quantile of what chance gives may be chance."""
WHAT = ("label", "input length", "output length", "word", "language")
OTHER = "(other)"
ALL = "all families"
"""Stands for the family where the families themselves are compared."""


@dataclass(frozen=True)
class Drift:
    family: str
    what: str
    """`family`, `label`, `input length`, `output length`, `word`, `language`."""
    psi: float
    js: float
    chance: float
    """What the index stays below 99 times in 100 if nothing changed; for words, which come in clumps, a rough guide."""
    before: dict[str, float]
    """Bin → share."""
    after: dict[str, float]

    @property
    def level(self) -> str:
        return "steady" if self.psi < MINOR else "minor" if self.psi < MAJOR else "major"

    @property
    def may_be_chance(self) -> bool:
        return self.psi <= self.chance

    def moved(self, most: int) -> list[str]:
        """The bins whose shares changed most, the furthest first."""
        changed = [each for each in self.before if self.after[each] != self.before[each]]
        return sorted(changed, key=lambda each: (-abs(self.after[each] - self.before[each]), each))[:most]


@dataclass
class Profile:
    """What a family's rows are like."""

    rows: int
    """How many there are, also where only a sample was looked at."""
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """What → bin → how many."""


def profile(rows: Iterable[Mapping[str, Any]], totals: Mapping[str, int] | None = None) -> dict[str, Profile]:
    """Family → what its rows are like.

    Args:
        totals: family → how many rows there are, where `rows` is a sample.
    """
    seen: Counter[str] = Counter()
    counted: dict[str, dict[str, Counter[str]]] = {}
    for row in rows:
        seen[row["family"]] += 1
        _count(row, counted.setdefault(row["family"], {what: Counter() for what in WHAT}))
    return {family: Profile((totals or seen).get(family, 0), counts) for family, counts in sorted(counted.items())}


def _count(row: Mapping[str, Any], counts: dict[str, Counter[str]]) -> None:
    asked, answered = segment(f"{row['instruction']} {row['input']}"), segment(row["output"])
    counts["label"][row["output"]] += 1
    counts["input length"][length_bin(len(asked))] += 1
    counts["output length"][length_bin(len(answered))] += 1
    counts["word"].update(asked)
    counts["word"].update(answered)
    counts["language"][row["language"]] += 1


def _has_labels(outputs: Counter[str]) -> bool:
    return len(outputs) <= MOST_LABELS and outputs.total() >= LEAST_ROWS_A_LABEL * len(outputs)


def length_bin(segments: int) -> str:
    """Lengths double from bin to bin: `8-15`."""
    if segments < 1:
        return "0"
    low = 2 ** int(math.log2(segments))
    return f"{low}-{2 * low - 1}" if low > 1 else "1"


def compare(before: dict[str, Profile], after: dict[str, Profile]) -> list[Drift]:
    """The drift of each family that both have, in each respect, and of the families themselves; the furthest first."""
    found = []
    if len(before | after) > 1 and before and after:
        mixes = [Counter({family: of.rows for family, of in side.items()}) for side in (before, after)]
        found.append(_drift(ALL, "family", mixes[0], mixes[1]))
    for family in sorted(before.keys() & after.keys()):
        for what in WHAT:
            old, new = before[family].counts[what], after[family].counts[what]
            if what != "label" or _has_labels(old):
                found.append(_drift(family, what, old, new))
    return sorted(found, key=lambda each: (-each.psi, each.family, each.what))


def _drift(family: str, what: str, old: Counter[str], new: Counter[str]) -> Drift:
    if what == "word" or len(new) > MOST_LABELS:
        often = [(-count, each) for each, count in old.items() if count >= LEAST_OF_A_WORD]
        known = {each for _, each in sorted(often)[:WORDS]}
        old, new = _folded(old, known), _folded(new, known)
    bins = sorted(old.keys() | new.keys())
    p, q = _shares(old, bins), _shares(new, bins)
    psi = float(np.sum((q - p) * np.log(q / p)))
    js = _divergence(p, q)
    quantile = 2 * float(
        gammaincinv(max(len(bins) - 1, 1) / 2, CHANCE)
    )  # of chi-squared; scipy.stats takes a second to import
    chance = (1 / max(old.total(), 1) + 1 / max(new.total(), 1)) * quantile
    shares = _told(old, bins), _told(new, bins)
    return Drift(family, what, round(psi, 4), round(js, 4), round(chance, 4), *shares)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence in bits (Lin, 1991) of two distributions over the same bins."""
    middle = (p / p.sum() + q / q.sum()) / 2
    nats = (rel_entr(p / p.sum(), middle).sum() + rel_entr(q / q.sum(), middle).sum()) / 2
    return max(float(nats) / math.log(2), 0.0)  # rounding may leave less than nothing


def _folded(counts: Counter[str], known: set[str]) -> Counter[str]:
    found: Counter[str] = Counter({word: count for word, count in counts.items() if word in known})
    found[OTHER] = counts.total() - found.total()
    return found


def _shares(counts: Counter[str], bins: list[str]) -> Any:
    shares = np.array([counts[each] for each in bins], np.float64) / max(counts.total(), 1)
    shares = np.maximum(shares, SMALLEST_SHARE)
    return shares / shares.sum()


def _told(counts: Counter[str], bins: list[str]) -> dict[str, float]:
    total = max(counts.total(), 1)
    return {each: round(counts[each] / total, 5) for each in bins}
