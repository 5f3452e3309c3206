"""How alike two texts are: token F1, chrF and ROUGE-L, from 0 to 1, the same for Chinese and English. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tasks.scoring.answer_tokens import answer_tokens, is_number

CHRF_ORDER = 6
CHRF_BETA = 2
_NO_NEED = re.compile(r"(?<!\d) | (?!\d)")


def token_f1(answer: str, target: str) -> float | None:
    """F1 of the tokens that both share (tasks.scoring.answer_tokens), whichever is which; None where one has no token.

    Numbers are shared as far as they are in the same order: `2月1日` is not `1月2日`, and `5 to 10` not `10 to 5`.
    """
    ours, theirs = answer_tokens(answer), answer_tokens(target)
    if not ours or not theirs:
        return None
    shared = Counter(ours) & Counter(theirs)
    numbers = sum(count for token, count in shared.items() if is_number(token))
    if numbers > 1:
        ordered = common_subsequence(*([token for token in side if is_number(token)] for side in (ours, theirs)))
    else:
        ordered = numbers
    return 2 * (shared.total() - numbers + ordered) / (len(ours) + len(theirs))


def chrf(answer: str, target: str, *, with_spaces: bool = False) -> float:
    """chrF2 of one sentence, as sacreBLEU computes it (M. Popović, "chrF", WMT 2015): character n-grams of 1 to 6, precision
    and recall averaged over the orders that both texts have, recall counted twice as much.

    Args:
        with_spaces: white space counts, as it does in code; else it is left out, but between digits: `5 10` is not `510`.
    """
    if not with_spaces:
        answer, target = (_NO_NEED.sub("", " ".join(text.split())) for text in (answer, target))
    precisions, recalls = [], []
    for order in range(1, min(CHRF_ORDER, len(answer), len(target)) + 1):
        ours, theirs = _ngrams(answer, order), _ngrams(target, order)
        shared = (ours & theirs).total()
        precisions.append(shared / ours.total())
        recalls.append(shared / theirs.total())
    if not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weight = CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def rouge_l(answer: str, target: str) -> float:
    """ROUGE-L (C.-Y. Lin, 2004), the F measure: the longest common subsequence of the tokens (answer_tokens.py)."""
    ours, theirs = answer_tokens(answer), answer_tokens(target)
    if not ours or not theirs:
        return 0.0
    return 2 * common_subsequence(ours, theirs) / (len(ours) + len(theirs))


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
