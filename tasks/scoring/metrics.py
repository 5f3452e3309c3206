"""The metrics: how the answers of each kind (`kind` in a template file) are parsed, compared and named in reports. Pure.

A metric is one entry of METRICS, here or added by a plugin (docs/extend.md). Everything else is the same for all of them
(score.py): thoughts and the template's frame are removed first, and an answer that cannot be parsed scores 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import eq
from typing import Any

from tasks.runtime.plugin_table import PluginTable
from tasks.scoring import answer_parsers, text_metrics
from tasks.scoring.answer_text import normalise_answer, normalise_symbols
from tasks.scoring.call_measures import call_measures
from tasks.scoring.corpus_metrics import summary_measures, translation_measures
from tasks.scoring.squad import squad_measures


def is_exact_match(answer: str, target: str) -> bool:
    """Whether two texts differ at most in case, width, white space and punctuation at the end."""
    return normalise_answer(answer) == normalise_answer(target)


def token_f1(answer: str, target: str) -> float:
    """F1 of the tokens that answer and target share (answer_tokens.py); exact match if one of them has no token."""
    return float(is_exact_match(answer, target)) or text_metrics.token_f1(answer, target) or 0.0


def set_f1(predicted: frozenset[Any], expected: frozenset[Any]) -> float:
    size = len(predicted) + len(expected)
    return 2 * len(predicted & expected) / size if size else 1.0


def text_chrf(answer: str, target: str) -> float:
    return text_metrics.chrf(normalise_symbols(answer), normalise_symbols(target))


def code_chrf(answer: str, target: str) -> float:
    return text_metrics.chrf(answer, target, with_spaces=True)


CorpusMeasures = Callable[[Sequence[str], Sequence[str]], Mapping[str, float]]


@dataclass(frozen=True)
class Metric:
    name: str
    """Its name in reports."""
    parse: Callable[[str], Any] | None = None
    """Answer → a value to compare: text, JSON, or a frozenset of texts or of tuples of texts; None if it cannot be parsed. Of a
    frozenset, right, predicted and expected elements are counted. Without a parser: rows of this kind have no generated answer."""
    is_equal: Callable[[Any, Any], bool] = is_exact_match
    """Whether a parsed answer is entirely correct (score 1); its arguments: parsed answer, parsed target."""
    partial_score: Callable[[Any, Any], float] | None = None
    """The score from 0 to 1 of an answer that is not entirely correct; without it: 0. Arguments as above."""
    zero_if_degenerate: bool = False
    """A degenerate answer (degenerate_answers.py) scores 0. For parsed values that are text; in other kinds, only an empty answer
    is degenerate."""
    is_prose: bool = False
    """An answer in another script than the target and the question is degenerate: not of translations and code."""
    removes_frame: bool = True
    """Remove the template's text around the target before parsing."""
    is_classification: bool = False
    """The answers are classes: `objective: classify` trains on them, and reports have precision, recall and F1 by label, and a
    confusion matrix."""
    score_key: str | None = None
    """A second key of a family's score in metrics.json."""
    corpus_measures: CorpusMeasures | None = None
    """More numbers of a family's answers, for reports only: parsed answers ("" if they could not be parsed) and targets, both as
    text → key in metrics.json and number."""


_TOKEN_F1 = Metric(
    "token F1",
    answer_parsers.parse_text,
    partial_score=token_f1,
    zero_if_degenerate=True,
    is_prose=True,
    score_key="token_f1",
)

METRICS: PluginTable[Metric] = PluginTable(
    "kind of answer",
    {
        "classification": Metric("exact match", answer_parsers.parse_label, is_classification=True, score_key="accuracy"),
        "entities": Metric("entity F1", answer_parsers.parse_entities, eq, set_f1),
        "relation": Metric("triple F1", answer_parsers.parse_triples, eq, set_f1),
        "qa": replace(_TOKEN_F1, corpus_measures=squad_measures),
        "translation": Metric(
            "chrF", answer_parsers.parse_text, partial_score=text_chrf, zero_if_degenerate=True,
            corpus_measures=translation_measures,
        ),
        "summary": Metric(
            "ROUGE-L", answer_parsers.parse_text, partial_score=text_metrics.rouge_l, zero_if_degenerate=True, is_prose=True,
            score_key="rouge_l", corpus_measures=summary_measures,
        ),
        "code": Metric(
            "chrF", answer_parsers.parse_code, eq, code_chrf, zero_if_degenerate=True,
            removes_frame=False,  # a frame may be the fence of a block, which names its language
        ),
        "json": Metric("equal JSON", answer_parsers.parse_json, answer_parsers.equal_json),
        "tool_calls": Metric("equal calls", answer_parsers.parse_calls, answer_parsers.equal_json, corpus_measures=call_measures),
        "free": _TOKEN_F1,
        "text": Metric("likelihood a byte"),
        "preference": Metric("better answer preferred"),
    },
    stages=("render", "evaluate"),  # and `finetune` if a metric is a reward, by data/rendered/prompts/plugins.json
)  # fmt: skip
"""Kind of answer → its metric."""


def answer_kinds() -> tuple[str, ...]:
    """The kinds whose answers are generated and parsed."""
    return tuple(kind for kind, metric in METRICS.items() if metric.parse is not None)


def class_kinds() -> tuple[str, ...]:
    """The kinds whose answers are classes."""
    return tuple(kind for kind, metric in METRICS.items() if metric.is_classification)
