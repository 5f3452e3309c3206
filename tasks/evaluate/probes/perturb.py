"""One test row → the same row with a changed prompt, by the name of a probe. Pure: the result depends on row, probe and seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tasks.evaluate.predictions import Row
from tasks.evaluate.probes.additions import add_injection, add_passage, passage_for
from tasks.evaluate.probes.fixed_text import Mask, fixed_characters
from tasks.evaluate.probes.letter_case import change_case
from tasks.evaluate.probes.paraphrase import paraphrase
from tasks.evaluate.probes.typos import add_typos
from tasks.records.segmentation import language_of

STRUCTURED = frozenset({"entities", "relation", "json", "code", "tool_calls"})


@dataclass(frozen=True)
class Surroundings:
    """What a perturbation may use apart from the row."""

    labels: Collection[str] = ()
    """The labels of the row's family, if it is a classification."""
    templates: Sequence[Mapping[str, Any]] = ()
    """The templates of the family."""
    passages: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """Language → (family, text) of the test rows."""


@dataclass(frozen=True)
class Perturbed:
    row: Row
    canary: str | None = None


def perturb(row: Row, probe: str, seed: int, around: Surroundings) -> Perturbed | None:
    """The row with another question, and the same target; None if the probe does not apply to it.

    A row without a question is that of a classifier: its whole prompt is the text.
    """
    question = row["prompt"] if row.get("question") is None else row["question"]
    question = question if question in row["prompt"] else question.strip()  # as some chat templates write it
    if not question or question not in row["prompt"]:
        return None
    changed, canary = _change(row, question, probe, Random(f"{seed} {probe} {row['row_id']}"), around)
    if changed is None or changed == question:
        return None
    start = row["prompt"].rfind(question)
    prompt = row["prompt"][:start] + changed + row["prompt"][start + len(question) :]
    return Perturbed(row | {"prompt": prompt} | ({} if row.get("question") is None else {"question": changed}), canary)


def _change(row: Row, question: str, probe: str, random: Random, around: Surroundings) -> tuple[str | None, str | None]:
    """The changed question and the canary."""
    target, language, kind = row["target"], language_of(question), row["kind"]
    if probe == "typos":
        fixed = _fixed(row, question, around, with_numbers=True)
        return add_typos(question, fixed, random, keeps_length=kind == "entities"), None
    if probe == "case":
        return change_case(question, _fixed(row, question, around, with_numbers=False), random), None
    if probe == "paraphrase":
        return (None if row.get("question") is None else paraphrase(row, around.templates, language, random)), None
    if probe == "distraction":
        passage = passage_for(question, target, around.passages.get(language, ()), row["family"], random)
        return (None if passage is None else add_passage(question, passage, language, random)), None
    assert probe == "injection", probe
    text = row.get("input") or ""
    injected = add_injection(question, text, target, language, random, only_at_end=kind in STRUCTURED)
    return injected or (None, None)


def _fixed(row: Row, question: str, around: Surroundings, *, with_numbers: bool) -> Mask:
    fixed = fixed_characters(question, row["target"], around.labels, with_numbers=with_numbers)
    text = row.get("input") or ""
    if row["kind"] == "code" and text and (start := question.rfind(text)) >= 0:
        fixed[start : start + len(text)] = b"\x01" * len(text)
    return fixed
