"""The numbers of a model that metrics.json can have, as a tree of names: a misspelled path of `gate.limits` is an error before the
run. Pure.

A name in brackets stands for any name, except `<family>`, which the project knows. Below ANYTHING no name is known: there are
the measures of a plugin's kinds. The names of lm-eval's tasks and metrics are the harness's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from tasks.evaluate.probes.settings import Bias, Robustness
from tasks.gate.number_paths import join_path
from tasks.inference.settings import Role
from tasks.pii.patterns import KINDS
from tasks.sandbox.run_programs import REASONS as OUTCOMES
from tasks.scoring.degenerate_answers import REASONS
from tasks.scoring.metrics import METRICS

Tree = Mapping[str, Any]
"""Name → its tree; None: a number."""
ANYTHING: Tree = {"<any>": None}
FAMILY = "<family>"
OF_CORPUS = (
    *("squad_exact_match", "squad_f1", "bleu", "chrf", "rouge_1", "rouge_2", "name_accuracy", "arguments_accuracy"),
)  # fmt: skip
"""The corpus measures of Strop's kinds of answers (tasks/scoring/metrics.py)."""


def path_error(parts: tuple[str, ...], families: Collection[str]) -> tuple[str, str] | None:
    """Why metrics.json can never have a number at the path, and the fix; None if it can.

    Args:
        families: the families that rows can have.
    """
    node: Any = known_numbers()
    for depth, part in enumerate(parts):
        if node is ANYTHING:
            return None
        above = join_path(parts[:depth])
        if node is None:
            return f"goes on after `{above}`, which is a number", f"Did you mean `{above}`?"
        name = _name_in(node, part, families)
        if name is None:
            what = f"`{above}` has no `{part}`" if depth else f"`{part}` is no measure of a model"
            return what, _near(_listed(node, families), parts, depth)
        node = node[name]
    if node is None or node is ANYTHING:
        return None
    return "is several numbers", f"Choose one of {', '.join(_listed(node, families))} in it"


def known_numbers() -> Tree:
    """The tree of a model's entry in metrics.json, and of the drift of its data."""
    family = _family()
    spread = _numbers("p5", "median", "p95")
    return {
        "valid_perplexity": None,
        "valid_losses": {FAMILY: _numbers("loss", "perplexity", "tokens")},
        "overall": _SCORES,
        "families": {FAMILY: family},
        "size": _numbers("bytes", "parameters", "total_parameters"),
        "latency": {"rows": None, "answer_s": spread, "tokens_per_s": spread},
        "cost": _numbers("per_1000_answers"),
        "grounding": {FAMILY: _numbers("unsupported", "rows")},
        "robustness": {name: _probe(_drop(name)) for name in get_args(Robustness)},
        "bias": {name: _probe(_GAP) for name in get_args(Bias)},
        "code": {FAMILY: _code()},
        "forgetting": {
            "anchors": {**_SCORES, **_CHANGES, "families": {FAMILY: {**family, **_CHANGES}}},
            "<task>": {"rows": None, "<metric>": {"score": None, "stderr": None, **_CHANGES}},
        },
        "shots": {"<number>": {**_SCORES, "fewer_shots": None, "families": {FAMILY: family}}},
        "drift": _numbers("max_psi"),
    }


def _numbers(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names)


_SCORES = _numbers("rows", "score", "bits_per_byte")
_CHANGES = {"changes": {role: _numbers("score") for role in get_args(Role) if role != "candidate"}}
_GAP = _numbers("gap", "first_to_second", "second_to_first", "answers_differ", "rows")
_TEXTS = _numbers("distinct_1", "distinct_2", "self_bleu", "repetition", "refusals")


def _family() -> dict[str, Any]:
    measures = {metric.score_key for metric in METRICS.values() if metric.score_key} | set(OF_CORPUS)
    is_added = any(metric.corpus_measures and not _is_own(metric.corpus_measures) for metric in METRICS.values())
    of_answers = _numbers("length_ratio", "similarity", "in_target_language", "in_question_language")
    return {
        **_SCORES,
        **_numbers("exact_match", "unparsed", "target_too_long", "micro_f1", "macro_f1", "weighted_f1", "confidence", "ece"),
        **_numbers(*sorted(measures)),
        "degenerate": _numbers("rows", *REASONS),
        "personal_data": _numbers("rows", *KINDS),
        "languages": {"<language>": _SCORES},
        "kinds": dict.fromkeys(METRICS, _SCORES),
        "per_class": {"<label>": _numbers("precision", "recall", "f1", "rows")},
        "free_text": {"answers": {**_TEXTS, **of_answers}, "targets": _TEXTS},
        **(ANYTHING if is_added else {}),
    }  # fmt: skip


def _is_own(measures: Any) -> bool:
    return str(getattr(measures, "__module__", "")).startswith("tasks.")


def _drop(probe: str) -> dict[str, Any]:
    return _numbers("score", "clean", "drop", "rows", *(["obeyed"] if probe == "injection" else []))


def _probe(numbers: Tree) -> dict[str, Any]:
    return {**numbers, "skipped": None, "families": {FAMILY: numbers}, "languages": {"<language>": numbers}}


def _code() -> dict[str, Any]:
    outcomes = _numbers(*OUTCOMES)
    sampled = {"rows": None, "samples": None, "outcomes": outcomes, "<pass_at_k>": _numbers("rows", "score")}
    return {"rows": None, "pass_at_1": None, "outcomes": outcomes, "sampled": sampled}


def _name_in(node: Tree, part: str, families: Collection[str]) -> str | None:
    """The name in the tree that a part of a path has."""
    if part in node:
        return part
    if FAMILY in node:
        return FAMILY if part in families else None
    return next((name for name in node if name.startswith("<")), None)


def _listed(node: Tree, families: Collection[str]) -> list[str]:
    """The names of a tree, with those of the families in place of `<family>`."""
    return [name for name in node if name != FAMILY] + (sorted(families) if FAMILY in node else [])


def _near(names: list[str], parts: tuple[str, ...], depth: int) -> str:
    if near := get_close_matches(parts[depth], names, 1, 0.6):
        return f"Did you mean `{join_path((*parts[:depth], near[0], *parts[depth + 1 :]))}`?"
    return f"There are {', '.join(names)}" if names else "No family has templates yet"
