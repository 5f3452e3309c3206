"""How far the data of one version have drifted from those of another: labels, lengths, words, languages, a family each. Pure.

Population stability index: sum of (q - p) ln(q / p) over the bins (Siddiqi, Credit Risk Scorecards, 2006); under 0.1 is steady,
from 0.25 on it is another population. Jensen-Shannon divergence in bits, 0 to 1 (Lin 1991).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.distance import jensenshannon

from tasks.text import segment

MOST_LABELS = 200
LEAST_ROWS_A_LABEL = 5
"""A family whose outputs repeat this often on average has labels."""
WORDS = 1_000
"""The most frequent words of the first version; all others are one bin."""
SAMPLE_ROWS = 20_000
SMALLEST_SHARE = 1e-4
"""A bin that is empty on one side counts as this much, or the index would be infinite."""
STEADY, SHIFTED = 0.1, 0.25
OTHER = "(other)"


@dataclass(frozen=True)
class Drift:
    family: str
    what: str
    """`label`, `input length`, `output length`, `word`, `language`."""
    psi: float
    js: float
    before: dict[str, float]
    """Bin → share."""
    after: dict[str, float]

    @property
    def level(self) -> str:
        return "steady" if self.psi < STEADY else "shifted" if self.psi < SHIFTED else "drifted"


@dataclass
class Profile:
    """What a family's rows are like."""

    rows: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """What → bin → how many."""


def profile(rows: Iterable[Mapping[str, Any]]) -> dict[str, Profile]:
    """Family → what its rows are like; of a large family, a sample by the hash of the row's id."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    return {family: _profile(of) for family, of in sorted(families.items())}


def _profile(rows: list[Mapping[str, Any]]) -> Profile:
    found = Profile(len(rows))
    if len(rows) > SAMPLE_ROWS:
        rows = sorted(rows, key=lambda row: hashlib.sha256(row["row_id"].encode()).digest())[:SAMPLE_ROWS]
    labels: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    words: Counter[str] = Counter()
    inputs: Counter[str] = Counter()
    outputs: Counter[str] = Counter()
    for row in rows:
        asked, answered = segment(f"{row['instruction']} {row['input']}"), segment(row["output"])
        labels[row["output"]] += 1
        languages[row["language"]] += 1
        inputs[length_bin(len(asked))] += 1
        outputs[length_bin(len(answered))] += 1
        words.update(asked)
        words.update(answered)
    if len(labels) <= MOST_LABELS and len(rows) >= LEAST_ROWS_A_LABEL * len(labels):
        found.counts["label"] = labels
    found.counts |= {"input length": inputs, "output length": outputs, "word": words, "language": languages}
    return found


def length_bin(segments: int) -> str:
    """Lengths double from bin to bin: `8-15`."""
    if segments < 1:
        return "0"
    low = 2 ** int(math.log2(segments))
    return f"{low}-{2 * low - 1}" if low > 1 else "1"


def compare(before: dict[str, Profile], after: dict[str, Profile]) -> list[Drift]:
    """The drift of each family that both have, in each respect, the furthest first."""
    found = []
    for family in sorted(before.keys() & after.keys()):
        old, new = before[family].counts, after[family].counts
        for what in old.keys() & new.keys():
            found.append(_drift(family, what, old[what], new[what]))
    return sorted(found, key=lambda each: (-each.psi, each.family, each.what))


def _drift(family: str, what: str, old: Counter[str], new: Counter[str]) -> Drift:
    if what == "word":
        known = {word for word, _ in sorted(old.items(), key=lambda item: (-item[1], item[0]))[:WORDS]}
        old, new = _folded(old, known), _folded(new, known)
    bins = sorted(old.keys() | new.keys())
    p, q = _shares(old, bins), _shares(new, bins)
    psi = float(np.sum((q - p) * np.log(q / p)))
    js = float(jensenshannon(p, q, base=2) ** 2)
    return Drift(family, what, round(psi, 4), round(js, 4), _told(old, bins), _told(new, bins))


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
