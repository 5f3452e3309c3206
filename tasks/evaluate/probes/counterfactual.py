"""Counterfactual pairs: a test row, and the same with the words of a list swapped in its prompt and in its target. Pure.

A row has no counterfactual if the swap could change the right answer: if nothing but the model's knowledge answers it (a question
without a text, code, tool calls), if its label or a key of JSON has a word of the list, if the target has positions in the text and
the lengths differ, or if source and target of a translation have different numbers of these words.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex

from tasks.evaluate.predictions import Row
from tasks.evaluate.probes.swap import Swapped, swap

_OF_A_TEXT = frozenset({"classification", "entities", "relation", "summary", "translation"})
"""Kinds whose answer depends on the text in the prompt."""
_WITH_INPUT = frozenset({"qa", "free", "json"})
"""Kinds whose answer depends on it if the row has an input."""
_KEYS = regex.compile(r"\"[^\"\n]*\"\s*:|`[^`]*`")
TO_SECOND, TO_FIRST, BOTH = "first_to_second", "second_to_first", "both"


@dataclass(frozen=True)
class Counterfactual:
    row: Row
    direction: str
    """TO_SECOND if the row has words of the first group only, TO_FIRST, or BOTH."""


def make_counterfactual(row: Row, list_name: str) -> Counterfactual | str | None:
    """The row with the words of the list swapped; None if its prompt has none of them; else the reason why it has none."""
    prompt = swap(row["prompt"], list_name)
    if not prompt.count:
        return None
    target = swap(row["target"], list_name)
    if reason := _reason(row, prompt, target):
        return reason
    texts = {name: swap(row[name], list_name).text for name in ("question", "instruction", "input") if row.get(name)}
    changed = {**row, **texts, "prompt": prompt.text, "target": target.text}
    direction = BOTH if prompt.to_second and prompt.to_first else TO_SECOND if prompt.to_second else TO_FIRST
    return Counterfactual(changed, direction)


def _reason(row: Row, prompt: Swapped, target: Swapped) -> str:
    """Why the swap could change the right answer; empty if it cannot."""
    kind = row["kind"]
    if kind not in _OF_A_TEXT and not (kind in _WITH_INPUT and (row.get("input") or "").strip()):
        return "no text to answer by"
    if kind == "classification" and target.count:
        return "word in a label"
    if any(
        _KEYS.findall(row[name]) != _KEYS.findall(swapped.text)
        for name, swapped in (("prompt", prompt), ("target", target))
    ):
        return "word in a key or in code"
    if kind == "entities" and '"start"' in row["target"] and not prompt.keeps_length:
        return "positions in the target"
    if kind == "translation" and target.count != prompt.count:
        return "another number of words in the translation"
    return ""
