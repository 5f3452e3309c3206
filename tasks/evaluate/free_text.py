"""Measures of free-form answers beside their score: diversity, length, language and refusals. Reported, without a bound. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from tasks.evaluate.predictions import Row
from tasks.records.languages import MIXED
from tasks.records.segmentation import has_letters, language_of
from tasks.scoring.answer_tokens import answer_tokens
from tasks.scoring.diversity import distinct_n, repetition, self_bleu
from tasks.scoring.metrics import METRICS
from tasks.scoring.refusals import is_refusal
from tasks.scoring.statistics import rounded
from tasks.scoring.thoughts import without_thought

SELF_BLEU_TEXTS = 200
"""Texts in the sample whose self-BLEU is computed: it rises with their number."""


def describe_texts(rows: Sequence[Row], seed: str) -> dict[str, Any]:
    """The entry `free_text` of a family in metrics.json: the measures of its answers that are compared as text, and of their
    targets; empty without such answers.

    Args:
        seed: seeds the sample of self-BLEU; the same rows are sampled of each model.
    """
    rows = [row for row in rows if METRICS[row["kind"]].zero_if_degenerate]
    if not rows:
        return {}
    answers, targets = [row["read"] for row in rows], [without_thought(row["target"]) for row in rows]
    sample = random.Random(seed).sample(range(len(rows)), min(len(rows), SELF_BLEU_TEXTS))
    of_answers, of_targets = ([_tokens(text) for text in texts] for texts in (answers, targets))
    target_tokens = sum(map(len, of_targets))
    return {
        "free_text": {
            "answers": {
                **_measures(answers, of_answers, sample),
                "length_ratio": _rounded(sum(map(len, of_answers)) / target_tokens if target_tokens else None),
                "similarity": _mean(row["similarity"] for row in rows if row["similarity"] is not None),
                "in_target_language": _language_share(answers, map(_language, targets)),
                "in_question_language": _language_share(answers, (row["language"] for row in rows)),
            },
            "targets": _measures(targets, of_targets, sample),
        }
    }


@lru_cache(maxsize=20_000)  # the targets of all models are the same
def _tokens(text: str) -> tuple[str, ...]:
    return tuple(answer_tokens(text))


def _measures(texts: Sequence[str], tokens: Sequence[Sequence[str]], sample: Sequence[int]) -> dict[str, float | None]:
    return {
        "distinct_1": _rounded(distinct_n(tokens, 1)),
        "distinct_2": _rounded(distinct_n(tokens, 2)),
        "self_bleu": _rounded(self_bleu([tokens[index] for index in sample])),
        "repetition": _mean(share for share in map(repetition, tokens) if share is not None),
        "refusals": _mean(map(is_refusal, texts)),
    }


def _language_share(answers: Sequence[str], expected: Iterable[str | None]) -> float | None:
    """The share of the answers with letters that are in the expected language; rows without one are left out."""
    pairs = [(_language(answer), language) for answer, language in zip(answers, expected, strict=True)]
    return _mean(one == other for one, other in pairs if one is not None and other not in (None, MIXED))


def _language(text: str) -> str | None:
    return language_of(text) if has_letters(text) else None


def _mean(numbers: Iterable[float]) -> float | None:
    values = list(numbers)
    return rounded(sum(values) / len(values)) if values else None


def _rounded(number: float | None) -> float | None:
    return None if number is None else rounded(number)
