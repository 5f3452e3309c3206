"""The numbers of models beside their scores, side by side: robustness, bias, false answers, forgetting, few-shot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.evaluate.further_scores import further_scores
from tasks.evaluate.probes.lines import families_of

MEASURES = (("robustness", "drop"), ("bias", "gap"), ("grounding", "unsupported"))
Row = tuple[str, int, dict[str, str]]
"""Name, rows, and role → number and interval."""


def probe_rows(models: Mapping[str, Any]) -> list[Row]:
    """Each measure of robustness, bias and false answers that any model has; the rows are those of the last one."""
    lines: list[Row] = []
    for topic, key in MEASURES:
        for name in dict.fromkeys(name for model in reversed([*models.values()]) for name in model.get(topic, {})):
            entries = {role: model[topic][name] for role, model in models.items() if name in model.get(topic, {})}
            measured = {role: families_of(entry, key) for role, entry in entries.items()}
            families = {family: entry for each in measured.values() for family, entry in each.items()}
            for family, entry in (families or {"": [*entries.values()][-1]}).items():
                cells = {
                    role: shown_number(by_family[family][key], by_family[family]["interval"])
                    for role, by_family in measured.items()
                    if family in by_family
                }
                lines.append((f"{topic} {name}{family and f' ({family})'}: {key}", entry["rows"], cells))
    return lines


def further_rows(models: Mapping[str, Any]) -> list[Row]:
    """Each score of anchors, tasks of lm-eval and few-shot rows."""
    return [
        (
            test.name,
            test.rows,
            {role: shown_number(each["score"], each.get("interval")) for role, each in test.scores.items()},
        )
        for test in further_scores(models)
    ]


def shown_number(number: float, interval: Any) -> str:
    ends = f" [{', '.join(f'{end:.3f}' for end in interval)}]" if interval else ""
    return f"{number:.3f}{ends}"
