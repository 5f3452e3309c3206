"""The interval of a number of metrics.json that is a mean, a share or a count of rows: that which metrics.json has, else Wilson's.
Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tasks.scoring.statistics import Interval, wilson_interval
from tasks.state.verdict import MANY_ROWS

OF_SCORES = ("families", "overall", "forgetting", "shots", "code")
"""Entries whose interval is that of their `score`."""
MEASURED = {"drop": "robustness", "gap": "bias", "unsupported": "grounding", "pass_at_1": "code"}
"""Number → the entries whose interval is its own."""
SECOND_NAMES = ("accuracy", "token_f1", "rouge_l")
"""Of a family's score."""
SHARES = ("exact_match", "name_accuracy", "arguments_accuracy", "obeyed", "answers_differ")
COUNTS = ("degenerate", "personal_data")
"""Objects of numbers of answers."""
OF_CALLS = ("name_accuracy", "arguments_accuracy")
TEST_ROWS = ("families", "overall", "grounding", "shots", "code")
"""Entries whose rows are the test rows, so that more of these decide."""


def has_interval(parts: tuple[str, ...]) -> bool:
    """Whether the number at a path has rows behind it, by its name."""
    topic, leaf = parts[0], parts[-1]
    if leaf == "score":
        return topic in OF_SCORES
    if leaf in MEASURED:
        return topic == MEASURED[leaf]
    return leaf in SHARES or _is_count(parts) or (leaf in SECOND_NAMES and "families" in parts)


def interval_of(
    model: Mapping[str, Any], parts: tuple[str, ...], number: float, confidence: float
) -> tuple[Interval | None, int]:
    """The interval of a number, and the rows behind it; None, 0 where there are none."""
    above: list[Any] = [model]
    for part in parts[:-1]:
        above.append(above[-1][part])
    around = above[-1]
    rows = next((each["rows"] for each in reversed(above) if isinstance(each.get("rows"), int)), 0)
    if _is_count(parts):
        entry = above[-2] if parts[-2] in COUNTS else around
        return _of_count(number, entry.get("rows", 0), confidence)
    if not has_interval(parts):
        return None, around["rows"] if isinstance(around.get("rows"), int) else 0
    if parts[-1] in SHARES:
        kinds = around.get("kinds", {})
        rows = kinds.get("tool_calls", around).get("rows", 0) if parts[-1] in OF_CALLS else rows
        return (wilson_interval(number * rows, rows, confidence) if rows else None), rows
    ends = around.get("interval")
    return (None if ends is None else Interval(float(ends[0]), float(ends[1]))), rows


def rows_to_decide(number: float, bound: float, interval: Interval, rows: int) -> int:
    """Further rows like these after which the interval no longer contains the bound: its width falls with the root."""
    half = number - interval.low if bound < number else interval.high - number
    distance = abs(bound - number)
    if not distance or not rows:
        return MANY_ROWS
    return max(1, min(MANY_ROWS, math.ceil(rows * ((half / distance) ** 2 - 1))))


def _is_count(parts: tuple[str, ...]) -> bool:
    """A number of answers of a family: `degenerate.rows`, `personal_data.email`, `unparsed`."""
    return "families" in parts and (parts[-1] == "unparsed" or parts[-2] in COUNTS)


def _of_count(number: float, rows: int, confidence: float) -> tuple[Interval | None, int]:
    if not rows:
        return None, 0
    share = wilson_interval(number, rows, confidence)
    return Interval(share.low * rows, share.high * rows), rows
