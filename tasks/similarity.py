"""How alike two texts are: token F1, chrF and ROUGE-L, from 0 to 1, the same for Chinese and English. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tasks.text import segment

CHRF_ORDER = 6
CHRF_BETA = 2


def token_f1(answer: str, target: str) -> float | None:
    """F1 of the tokens that both share (tasks.text.segment: a Chinese character, or a word); None where one has no token."""
    said, wanted = Counter(segment(answer)), Counter(segment(target))
    if not said or not wanted:
        return None
    return 2 * (said & wanted).total() / (said.total() + wanted.total())


def chrf(answer: str, target: str) -> float:
    """chrF2 of one sentence, as sacreBLEU computes it (M. Popović, "chrF", WMT 2015): character n-grams of 1 to 6, white space
    left out, precision and recall averaged over the orders that both texts have, recall counted twice as much."""
    said, wanted = "".join(answer.split()), "".join(target.split())
    precisions, recalls = [], []
    for order in range(1, min(CHRF_ORDER, len(said), len(wanted)) + 1):
        ours, theirs = _ngrams(said, order), _ngrams(wanted, order)
        shared = (ours & theirs).total()
        precisions.append(shared / ours.total())
        recalls.append(shared / theirs.total())
    if not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weight = CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def rouge_l(answer: str, target: str) -> float:
    """ROUGE-L (C.-Y. Lin, 2004), the F measure: the longest common subsequence of the texts' tokens."""
    said, wanted = segment(answer), segment(target)
    if not said or not wanted:
        return 0.0
    return 2 * common_subsequence(said, wanted) / (len(said) + len(wanted))


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, a whole row of the table as the bits of one number (H. Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << place
    everything = (1 << len(one)) - 1
    row = everything
    for token in other:
        matches = row & places.get(token, 0)
        row = (row + matches) | (row - matches)
    return len(one) - (row & everything).bit_count()


def _ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))
