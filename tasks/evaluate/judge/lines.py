"""The judge's results as text, for the log and the reports. Pure."""

from __future__ import annotations

from typing import Any


def judge_lines(metrics: dict[str, Any]) -> list[str]:
    """A line for each judged family of metrics.json."""
    judge = metrics.get("judge") or {"families": {}}
    lines = []
    for family, measured in judge["families"].items():
        if measured.get("problem"):
            lines.append(f"judge: {family} has no judged verdict: {measured['problem']}")
            continue
        numbers = (
            f"{measured['win']} won, {measured['tie']} tied, {measured['loss']} lost against the {judge['reference']}"
        )
        quality = f"{measured['flips']} position flips, {measured['unparsed']} unparsed, {measured['calls']} calls"
        quality += f", {measured['refused']} pairs refused by the endpoint" if measured.get("refused") else ""
        role = "decides" if measured["may_decide"] else f"only reports: {measured['objection']}"
        lines.append(f"judge: {family}: {numbers} ({quality}); {role}")
    return lines
