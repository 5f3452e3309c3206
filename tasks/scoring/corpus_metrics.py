"""Measures of all answers together, for reports: scores are by sentence. BLEU and chrF from 0 to 100, as sacreBLEU computes them;
the mean ROUGE-1 and ROUGE-2. Pure.

BLEU's tokens are those of sacreBLEU's tokenisers: `zh` of a pair with a Chinese target, else `13a`, its default.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import regex

from tasks.records.segmentation import language_of
from tasks.scoring.text_metrics import CHRF_BETA, CHRF_ORDER, rouge_n

BLEU_ORDER = 4
_CHINESE = regex.compile(
    "[\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\uff00-\uffef\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f"
    "\u3100-\u312f\u31a0-\u31ef\u3200-\u33ff\ufe10-\ufe1f\ufe30-\ufe4f]"
)
"""The characters that `zh` separates: symbols and punctuation from U+2001 on among them, and no extension B."""
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SEPARATIONS = (
    (regex.compile(r"([{-~[-` -&(-+:-@/])"), r" \1 "),
    (regex.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (regex.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (regex.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def translation_measures(answers: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    return {"bleu": corpus_bleu(answers, targets), "chrf": corpus_chrf(answers, targets)}


def summary_measures(answers: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """The mean ROUGE-1 and ROUGE-2 of the pairs; ROUGE-L is the score of a summary."""
    pairs = list(zip(answers, targets, strict=True))
    return {
        f"rouge_{order}": sum(rouge_n(answer, target, order) for answer, target in pairs) / max(len(pairs), 1)
        for order in (1, 2)
    }


def corpus_bleu(answers: Sequence[str], targets: Sequence[str]) -> float:
    """BLEU-4 with one reference and exponential smoothing (K. Papineni et al., ACL 2002; M. Post, WMT 2018)."""
    matches, totals = [0] * BLEU_ORDER, [0] * BLEU_ORDER
    length = target_length = 0
    for answer, target in zip(answers, targets, strict=True):
        language = language_of(target)
        tokens, target_tokens = bleu_tokens(answer, language), bleu_tokens(target, language)
        length, target_length = length + len(tokens), target_length + len(target_tokens)
        for order in range(BLEU_ORDER):
            ngrams = _ngrams(tokens, order + 1)
            matches[order] += (ngrams & _ngrams(target_tokens, order + 1)).total()
            totals[order] += ngrams.total()
    if not any(matches) or not all(totals):
        return 0.0
    zeros, logs = 0, []
    for matched, total in zip(matches, totals, strict=True):
        zeros += not matched
        logs.append(math.log((matched or 2.0**-zeros) / total))
    penalty = min(0.0, 1 - target_length / length)
    return 100 * math.exp(penalty + sum(logs) / BLEU_ORDER)


def corpus_chrf(answers: Sequence[str], targets: Sequence[str]) -> float:
    """chrF2 without white space (M. Popović, WMT 2015): counts are summed over the texts before they are divided."""
    matches, totals, target_totals = ([0] * CHRF_ORDER for _ in range(3))
    for pair in zip(answers, targets, strict=True):
        answer, target = ("".join(text.split()) for text in pair)
        for order in range(CHRF_ORDER):
            ngrams, target_ngrams = _ngrams(answer, order + 1), _ngrams(target, order + 1)
            matches[order] += (ngrams & target_ngrams).total()
            totals[order] += ngrams.total() if target_ngrams else 0
            target_totals[order] += target_ngrams.total()
    shares = [
        (matched / total, matched / target_total)
        for matched, total, target_total in zip(matches, totals, target_totals, strict=True)
        if total and target_total
    ]
    if not any(precision for precision, _ in shares):
        return 0.0
    precision = sum(precision for precision, _ in shares) / len(shares)
    recall = sum(recall for _, recall in shares) / len(shares)
    weight = CHRF_BETA * CHRF_BETA
    return 100 * (1 + weight) * precision * recall / (weight * precision + recall)


def bleu_tokens(text: str, language: str) -> tuple[str, ...]:
    if language == "zh":
        text = _CHINESE.sub(lambda match: f" {match[0]} ", text.strip())
    else:
        text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
        text = f" {text} "
    for pattern, replacement in _SEPARATIONS:
        text = pattern.sub(replacement, text)
    return tuple(text.split())


def _ngrams(items: str | tuple[str, ...], order: int) -> Counter[Any]:
    return Counter(items[start : start + order] for start in range(len(items) - order + 1))
