"""Exact match and F1 as the official script of SQuAD computes them (P. Rajpurkar et al., EMNLP 2016). For reports. Pure.

In other languages than English the script's tokens, which white space separates, would be whole sentences: a Chinese, Japanese or
Korean character is a token, and their punctuation is removed, as in MLQA (P. Lewis et al., ACL 2020).
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

import regex

from tasks.scoring.answer_text import CJK

_ARTICLE = regex.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PUNCTUATION_OF_CHINESE = regex.compile(r"[\p{P}\p{S}]", regex.VERSION1)
_CHARACTER = regex.compile(rf"[{CJK}]")


def squad_measures(answers: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    pairs = [(squad_tokens(answer), squad_tokens(target)) for answer, target in zip(answers, targets, strict=True)]
    exact = sum(tokens == target_tokens for tokens, target_tokens in pairs)
    return {"squad_exact_match": exact / len(pairs), "squad_f1": sum(_f1(*pair) for pair in pairs) / len(pairs)}


def squad_tokens(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles."""
    text = text.lower().translate(_PUNCTUATION)
    if _CHARACTER.search(text):
        text = _PUNCTUATION_OF_CHINESE.sub("", text)
    return str(_CHARACTER.sub(lambda match: f" {match[0]} ", _ARTICLE.sub(" ", text))).split()


def _f1(tokens: Sequence[str], target: Sequence[str]) -> float:
    """1 if neither text has a token, as of an answer to a question without one."""
    if not tokens or not target:
        return float(not tokens and not target)
    return 2 * (Counter(tokens) & Counter(target)).total() / (len(tokens) + len(target))
