"""Similarity of two texts, from 0 to 1: token F1, chrF and ROUGE, the same for Chinese and English. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import LCSseq

from tasks.scoring.answer_tokens import answer_tokens, is_number

CHRF_ORDER = 6
CHRF_BETA = 2
_SPACE_NOT_BETWEEN_DIGITS = re.compile(r"(?<!\d) | (?!\d)")


def token_f1(answer: str, target: str) -> float | None:
    """F1 of the common tokens (tasks.scoring.answer_tokens), symmetric; None if a text has no token.

    Numbers count as common as far as they are in the same order: `2月1日` differs from `1月2日`, and `5 to 10` from `10 to 5`.
    """
    tokens, target_tokens = answer_tokens(answer), answer_tokens(target)
    if not tokens or not target_tokens:
        return None
    shared = Counter(tokens) & Counter(target_tokens)
    numbers = in_order = sum(count for token, count in shared.items() if is_number(token))
    if numbers > 1:
        both = ([token for token in side if is_number(token)] for side in (tokens, target_tokens))
        in_order = LCSseq.similarity(*both)
    return 2 * (shared.total() - numbers + in_order) / (len(tokens) + len(target_tokens))


def chrf(answer: str, target: str, *, with_spaces: bool = False) -> float:
    """chrF2 of one sentence, as sacreBLEU computes it (M. Popović, "chrF", WMT 2015): character n-grams of 1 to 6, precision
    and recall averaged over the orders that both texts have, recall with twice the weight.

    Args:
        with_spaces: count white space, as for code; else only a space between digits counts: `5 10` differs from `510`.
    """
    if not with_spaces:
        answer, target = (_SPACE_NOT_BETWEEN_DIGITS.sub("", " ".join(text.split())) for text in (answer, target))
    precisions, recalls = [], []
    for order in range(1, min(CHRF_ORDER, len(answer), len(target)) + 1):
        ngrams, target_ngrams = _ngrams(answer, order), _ngrams(target, order)
        shared = (ngrams & target_ngrams).total()
        precisions.append(shared / ngrams.total())
        recalls.append(shared / target_ngrams.total())
    if not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weight = CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def rouge_l(answer: str, target: str) -> float:
    """ROUGE-L (C.-Y. Lin, 2004) of the texts' tokens (answer_tokens.py)."""
    return rouge_l_of_tokens(answer_tokens(answer), answer_tokens(target))


def rouge_l_of_tokens(tokens: Sequence[str], target: Sequence[str]) -> float:
    """F1 by the longest common subsequence; 0 if a text has no token."""
    return 2 * LCSseq.similarity(tokens, target) / (len(tokens) + len(target)) if tokens and target else 0.0


def rouge_n(answer: str, target: str, order: int) -> float:
    """ROUGE-N (C.-Y. Lin, 2004): F1 of the n-grams of tokens (answer_tokens.py); 0 if a text has none."""
    ngrams, target_ngrams = (_ngrams(tuple(answer_tokens(text)), order) for text in (answer, target))
    total = ngrams.total() + target_ngrams.total()
    return 2 * (ngrams & target_ngrams).total() / total if total else 0.0


def _ngrams(items: Sequence[str], order: int) -> Counter[Sequence[str]]:
    return Counter(items[start : start + order] for start in range(len(items) - order + 1))
