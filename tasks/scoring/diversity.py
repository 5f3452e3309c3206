"""Diversity of a set of texts, by tokens (answer_tokens.py): distinct-n, self-BLEU and repetition. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Tokens = Sequence[str]

BLEU_ORDER = 4
SMOOTHED = 0.1
"""Replaces a count of 0 matching n-grams (method 1 of B. Chen and C. Cherry, WMT 2014, with NLTK's value)."""
REPEATED_TOKENS = 4
"""Tokens of an n-gram that counts as repetition when it recurs: shorter ones recur in any text."""


def distinct_n(texts: Sequence[Tokens], order: int) -> float | None:
    """Distinct n-grams of all texts, divided by their number (J. Li et al., NAACL 2016); None without n-grams. A larger set of
    texts has a lower value."""
    total, distinct = 0, set()
    for tokens in texts:
        grams = _ngrams(tokens, order)
        total += len(grams)
        distinct.update(grams)
    return len(distinct) / total if total else None


def repetition(tokens: Tokens) -> float | None:
    """The share of a text's n-grams of REPEATED_TOKENS tokens that occurred in it before (seq-rep-4, S. Welleck et al., ICLR
    2020); None for a shorter text."""
    grams = _ngrams(tokens, REPEATED_TOKENS)
    return (len(grams) - len(set(grams))) / len(grams) if grams else None


def self_bleu(texts: Sequence[Tokens]) -> float | None:
    """The mean BLEU-4 of each text with all others as references (Y. Zhu et al., SIGIR 2018), from 0 to 1; 1 for equal texts.

    Of a text with fewer than four tokens, the n-grams that it has are compared. None for fewer than two texts with tokens.
    """
    texts = [tokens for tokens in texts if tokens]
    if len(texts) < 2:
        return None
    matches = [_matches(texts, order) for order in range(1, BLEU_ORDER + 1)]
    return sum(_bleu(texts, index, [of_order[index] for of_order in matches]) for index in range(len(texts))) / len(
        texts
    )


def _bleu(texts: Sequence[Tokens], index: int, matches: Sequence[int]) -> float:
    length = len(texts[index])
    orders = range(1, min(BLEU_ORDER, length) + 1)
    logs = [math.log((matches[order - 1] or SMOOTHED) / (length - order + 1)) for order in orders]
    others = (len(tokens) for number, tokens in enumerate(texts) if number != index)
    _, closest = min((abs(other - length), other) for other in others)
    return min(1.0, math.exp(1 - closest / length)) * math.exp(sum(logs) / len(logs))


def _matches(texts: Sequence[Tokens], order: int) -> list[int]:
    """For each text: the number of its n-grams that other texts have, each counted as often as in the other text with the most."""
    counts = [Counter(_ngrams(tokens, order)) for tokens in texts]
    highest: dict[Tokens, tuple[int, int, int]] = {}
    """N-gram → the highest count, the index of its text, and the highest count in the other texts."""
    for index, of_text in enumerate(counts):
        for gram, count in of_text.items():
            most, holder, second = highest.get(gram, (0, -1, 0))
            highest[gram] = (count, index, most) if count > most else (most, holder, max(second, count))
    matches = []
    for index, of_text in enumerate(counts):
        total = 0
        for gram, count in of_text.items():
            most, holder, second = highest[gram]
            total += min(count, second if holder == index else most)
        matches.append(total)
    return matches


def _ngrams(tokens: Tokens, order: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(order)), strict=False))
