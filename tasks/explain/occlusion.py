"""Occlusion: the change of an answer's log-probabilities when a part of the input is removed. No attention weights, no gradients.

Captum's FeatureAblation removes one part after the other. If there are more words than passes, it begins with the fields, and
looks into the parts with the largest change first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tasks.explain.captum_import import captum_attr
from tasks.explain.parts import Part, all_parts, leaves

Changes = dict[Part, list[float]]
"""Part → for each answer token: its log-probability with the part minus the one without it."""
LogProbabilities = Callable[[Sequence[Sequence[Part]]], list[list[float]]]
"""Sets of removed parts → the log-probability of each answer token, with each set removed."""


def occlude(
    fields: Sequence[Part],
    log_probabilities: LogProbabilities,
    complete: list[float],
    *,
    passes: int,
    rows: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Changes:
    """The changes of the fields and of parts below them, at most `passes` (and all fields) of them.

    Args:
        complete: the log-probabilities with all parts.
        rows: inputs in one call of `log_probabilities`.
    """
    words = _words(fields)
    if len(fields) + len(words) <= passes:
        return _ablate([*fields, *words], log_probabilities, complete, rows, advance)
    changes = _ablate(list(fields), log_probabilities, complete, rows, advance)
    opened: set[Part] = set()
    while fitting := [
        part for part in changes if part not in opened and 0 < len(part.children) <= passes - len(changes)
    ]:
        largest = max(fitting, key=lambda part: abs(sum(changes[part])))  # the first of equal ones
        opened.add(largest)
        changes |= _ablate(list(largest.children), log_probabilities, complete, rows, advance)
    return changes


def passes_needed(fields: Sequence[Part], passes: int) -> int:
    """The number of parts that `occlude` removes, at most."""
    flat, deep = len(fields) + len(_words(fields)), sum(1 for part in fields for _ in all_parts(part))
    return flat if flat <= passes else max(len(fields), min(passes, deep))


def shown_parts(fields: Sequence[Part], changes: Changes) -> list[Part]:
    """The smallest parts with a change, in the order of the texts: each part of a text is in one of them at most."""
    shown: list[Part] = []

    def visit(part: Part) -> bool:
        below = [visit(child) for child in part.children]
        if any(below):
            return True
        if part in changes:
            shown.append(part)
        return part in changes

    for part in fields:
        visit(part)
    return shown


def _words(fields: Sequence[Part]) -> list[Part]:
    return [leaf for part in fields for leaf in leaves(part) if leaf.level != "field"]


def _ablate(
    parts: list[Part],
    log_probabilities: LogProbabilities,
    complete: list[float],
    rows: int,
    advance: Callable[[int], None],
) -> Changes:
    import torch

    def forward(kept: Any) -> Any:
        """(inputs, parts) of 1 (kept) and 0 (removed) → (inputs, answer tokens)."""
        removed = [[part for part, is_kept in zip(parts, row, strict=True) if not is_kept] for row in kept.tolist()]
        if not any(removed):  # Captum's first call
            return torch.tensor([complete], dtype=torch.float64)
        values = log_probabilities(removed)
        advance(len(values))
        return torch.tensor(values, dtype=torch.float64)

    everything = torch.ones((1, len(parts)), dtype=torch.float64)
    changes = captum_attr().FeatureAblation(forward).attribute(everything, perturbations_per_eval=rows)
    return {part: changes[:, index].tolist() for index, part in enumerate(parts)}
