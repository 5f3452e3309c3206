"""The drift between the data of two versions: labels, lengths, words and languages, by family. Pure.

Population stability index: sum of (q - p) ln(q / p) over the bins (Siddiqi, Credit Risk Scorecards, 2006); 0.1 or more is a
minor shift, 0.25 or more a major one. Two samples of one population differ too: their index is then distributed as
(1/n + 1/m) chi-squared with one degree of freedom less than bins (Yurdakul and Naranjo 2020), so a small family may exceed
0.1 by chance. Jensen-Shannon divergence in bits, 0 to 1 (Lin 1991).
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
"""A family has labels if each output occurs this often on average."""
WORDS = 1_000
"""Number of most frequent words of the first version with a bin of their own; all others share one bin."""
LEAST_OF_A_WORD = 5
"""A word that is rarer in the first version is in the common bin: two samples never have the same rare words."""
SMALLEST_SHARE = 1e-4
"""The share of a bin that is empty in one version, as the index would be infinite."""
MINOR, MAJOR = 0.1, 0.25
CHANCE = 0.99
"""An index below this quantile of its distribution without drift may be chance."""
MEASURES = ("label", "input length", "output length", "word", "language")
OTHER = "(other)"
ALL = "all families"
"""The value of `family` where the families themselves are compared."""


@dataclass(frozen=True)
class Drift:
    family: str
    what: str
    """`family`, `label`, `input length`, `output length`, `word`, `language`."""
    psi: float
    js: float
    chance: float
    """The 99 % quantile of the index without drift; only a rough guide for words, which are not independent."""
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
        """The bins whose shares changed most, the largest change first."""
        changed = [name for name in self.before if self.after[name] != self.before[name]]
        return sorted(changed, key=lambda name: (-abs(self.after[name] - self.before[name]), name))[:most]


@dataclass
class Profile:
    """The distributions of a family's rows."""

    rows: int
    """The number of all rows, also where only a sample was counted."""
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """Measure → bin → count."""


def profile(rows: Iterable[Mapping[str, Any]], totals: Mapping[str, int] | None = None) -> dict[str, Profile]:
    """Family → its distributions.

    Args:
        totals: family → number of all rows, where `rows` is a sample.
    """
    seen: Counter[str] = Counter()
    counted: dict[str, dict[str, Counter[str]]] = {}
    for row in rows:
        seen[row["family"]] += 1
        _count(row, counted.setdefault(row["family"], {what: Counter() for what in MEASURES}))
    return {family: Profile((totals or seen).get(family, 0), counts) for family, counts in sorted(counted.items())}


def _count(row: Mapping[str, Any], counts: dict[str, Counter[str]]) -> None:
    input_words, output_words = segment(f"{row['instruction']} {row['input']}"), segment(row["output"])
    counts["label"][row["output"]] += 1
    counts["input length"][length_bin(len(input_words))] += 1
    counts["output length"][length_bin(len(output_words))] += 1
    counts["word"].update(input_words)
    counts["word"].update(output_words)
    counts["language"][row["language"]] += 1


def length_bin(segments: int) -> str:
    """The bin of a length; bin limits double: `8-15`."""
    if segments < 1:
        return "0"
    low = 2 ** int(math.log2(segments))
    return f"{low}-{2 * low - 1}" if low > 1 else "1"


def compare(before: dict[str, Profile], after: dict[str, Profile]) -> list[Drift]:
    """The drift of each common family in each measure, and of the family shares; the largest first."""
    drifts = []
    if len(before | after) > 1 and before and after:
        mixes = [Counter({family: rows_of.rows for family, rows_of in version.items()}) for version in (before, after)]
        drifts.append(_drift(ALL, "family", mixes[0], mixes[1]))
    for family in sorted(before.keys() & after.keys()):
        for what in MEASURES:
            old, new = before[family].counts[what], after[family].counts[what]
            has_labels = len(old) <= MOST_LABELS and old.total() >= LEAST_ROWS_A_LABEL * len(old)
            if what != "label" or has_labels:
                drifts.append(_drift(family, what, old, new))
    return sorted(drifts, key=lambda drift: (-drift.psi, drift.family, drift.what))


def _drift(family: str, what: str, old: Counter[str], new: Counter[str]) -> Drift:
    if what == "word" or len(new) > MOST_LABELS:
        frequent = [(-count, word) for word, count in old.items() if count >= LEAST_OF_A_WORD]
        kept = {word for _, word in sorted(frequent)[:WORDS]}
        old, new = _merge_others(old, kept), _merge_others(new, kept)
    bins = sorted(old.keys() | new.keys())
    p, q = _shares(old, bins), _shares(new, bins)
    psi = float(np.sum((q - p) * np.log(q / p)))
    js = _divergence(p, q)
    # of chi-squared; scipy.stats takes a second to import
    quantile = 2 * float(gammaincinv(max(len(bins) - 1, 1) / 2, CHANCE))
    chance = (1 / max(old.total(), 1) + 1 / max(new.total(), 1)) * quantile
    shares = _rounded_shares(old, bins), _rounded_shares(new, bins)
    return Drift(family, what, round(psi, 4), round(js, 4), round(chance, 4), *shares)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence in bits (Lin, 1991) of two distributions over the same bins."""
    middle = (p / p.sum() + q / q.sum()) / 2
    nats = (rel_entr(p / p.sum(), middle).sum() + rel_entr(q / q.sum(), middle).sum()) / 2
    return max(float(nats) / math.log(2), 0.0)  # rounding may give a value below 0


def _merge_others(counts: Counter[str], kept: set[str]) -> Counter[str]:
    merged: Counter[str] = Counter({word: count for word, count in counts.items() if word in kept})
    merged[OTHER] = counts.total() - merged.total()
    return merged


def _shares(counts: Counter[str], bins: list[str]) -> Any:
    shares = np.array([counts[name] for name in bins], np.float64) / max(counts.total(), 1)
    shares = np.maximum(shares, SMALLEST_SHARE)
    return shares / shares.sum()


def _rounded_shares(counts: Counter[str], bins: list[str]) -> dict[str, float]:
    total = max(counts.total(), 1)
    return {name: round(counts[name] / total, 5) for name in bins}
