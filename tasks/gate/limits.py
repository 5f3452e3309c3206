"""The check `limits`: bounds on any number of metrics.json, by its path below `models.candidate`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from tasks.errors import ConfigError
from tasks.gate.check import Check, GateInput
from tasks.gate.limit_intervals import TEST_ROWS, interval_of, rows_to_decide
from tasks.gate.number_paths import number_paths, split_path
from tasks.gate.settings import GateSettings, Limit
from tasks.state.verdict import MANY_ROWS

BY_FAMILY = ("families", "valid_losses", "code", "grounding")
TOPICS = (
    *BY_FAMILY, "overall", "valid_perplexity", "size", "latency", "cost", "robustness", "bias", "forgetting", "shots", "drift",
)  # fmt: skip
"""First parts of paths: what `evaluate` measures of a model, and the drift of its data."""
TIMES = ("latency", "cost")
"""Numbers that differ from run to run. The verdict is part of a version's identity, so it has the result and not the number."""
OF_ROWS = {"families": "family", "languages": "language", "kinds": "kind", "per_class": "label"}
"""Entries by a property of rows, which are there for the rows that there are."""
SHOWN = 3
"""Paths that an error lists."""


@dataclass(frozen=True)
class Bound:
    value: float
    is_upper: bool
    words: str
    """`at most 1.2 times the champion's`."""
    is_relative: bool

    def holds(self, number: float) -> bool:
        inside = number <= self.value if self.is_upper else number >= self.value
        return inside or math.isclose(number, self.value)  # the mean of 0.7, 0.7, ... may be just below it


class NotMeasured(Exception):
    """Why there is no number."""


def check_limits(gate: GateInput) -> Iterator[Check]:
    """`limits/<path>`: the candidate's number is within its bounds.

    The number itself is compared, on however few rows, and its interval is shown beside it; with `whole_interval` both ends are
    compared. Differences that the paired rows can prove are those of `not_worse` and `slices`. A number that was not measured
    fails.
    """
    for path, limit in gate.settings.limits.items():
        yield _check(gate, path, limit)


def require_known_topics(settings: GateSettings) -> None:
    """Raises ConfigError if a path of `gate.limits` begins with nothing that evaluate measures."""
    for path in settings.limits:
        if split_path(path)[0] not in TOPICS:
            raise _unknown(path, TOPICS)


def _check(gate: GateInput, path: str, limit: Limit) -> Check:
    models, parts = gate.metrics.get("models", {}), split_path(path)
    name, family = f"limits/{path}", parts[1] if parts[0] in BY_FAMILY and len(parts) > 2 else None
    candidate = models.get("candidate", {})
    try:
        number = _number(candidate, parts, path)
        bounds = list(_bounds(limit, _reference(gate, models, parts) if limit.is_relative else None, gate.reference))
    except NotMeasured as error:
        first = next(bound for _, bound in limit.set_bounds())
        return Check(name, family, False, None, first, None, 0, f"not measured: {error}")
    failed = [bound for bound in bounds if not bound.holds(number)]
    shown = (failed or bounds)[0]
    words = " and ".join(bound.words for bound in bounds)
    if parts[0] in TIMES:
        detail = f"{words}: {'no' if failed else 'yes'} (metrics.json has the numbers, which differ from run to run)"
        first = next(bound for _, bound in limit.set_bounds())
        return Check(name, family, not failed, None, first, None, 0, detail)
    interval, rows = interval_of(candidate, parts, number, gate.settings.confidence)
    ends = "" if interval is None else f" [{_shown(interval.low)}, {_shown(interval.high)}]"
    relative = ", ".join(
        f"{'at most' if b.is_upper else 'at least'} {_shown(b.value)}" for b in bounds if b.is_relative
    )
    detail = f"{_shown(number)}{ends}; {words}{f' ({relative})' if relative else ''}"
    check = Check(name, family, not failed, number, shown.value, interval, rows, detail)
    return _with_whole_interval(check, bounds, is_of_test_rows=parts[0] in TEST_ROWS) if limit.whole_interval else check


def _with_whole_interval(check: Check, bounds: list[Bound], is_of_test_rows: bool) -> Check:
    """The check of both ends of the interval. If the interval contains a bound, more rows would decide."""
    number, interval = check.number, check.interval
    if interval is None or number is None:
        what = "there is no interval, and `whole_interval` is set"
        return replace(check, passed=False, interval=None, detail=f"{check.detail}: {what}")
    open_bounds = [b for b in bounds if not all(map(b.holds, interval))]
    if not open_bounds:
        return replace(check, passed=True, detail=f"{check.detail} in the whole interval: yes")
    if broken := [b for b in open_bounds if not any(map(b.holds, interval))]:
        return replace(check, passed=False, bound=broken[0].value, detail=f"{check.detail} in the whole interval: no")
    needed = max(rows_to_decide(number, b.value, interval, check.rows) for b in open_bounds)
    rows = "a million or more" if needed >= MANY_ROWS else f"about {needed:,} more"
    what = "test rows" if is_of_test_rows else "of its rows"
    detail = f"{check.detail} in the whole interval: not shown; {rows} {what} would decide"
    bound = open_bounds[0].value
    return replace(
        check, passed=False, bound=bound, detail=detail, rows_needed=needed if is_of_test_rows else None, is_open=True
    )


def _bounds(limit: Limit, reference: float | None, role: str) -> Iterator[Bound]:
    for name, value in limit.set_bounds():
        side, _, relation = name.partition("_champion")[0].removeprefix("at_").partition("_")
        words = f"at {side} {_shown(value)}"
        if not relation:
            yield Bound(value, side == "most", words, False)
            continue
        assert reference is not None, "a limit with a relative bound needs the number of the reference"
        if relation == "times":
            if reference < 0:
                raise NotMeasured(
                    f"a factor of the {role}'s number, which is negative ({_shown(reference)}), has no meaning"
                )
            yield Bound(value * reference, side == "most", f"{words} times the {role}'s", True)
        else:
            bound = reference + value if relation == "above" else reference - value
            yield Bound(bound, relation == "above", f"{words} {relation} the {role}'s", True)


def _reference(gate: GateInput, models: Mapping[str, Any], parts: tuple[str, ...]) -> float:
    try:
        return _number(models.get(gate.reference, {}), parts, "")
    except (NotMeasured, ConfigError) as error:
        raise NotMeasured(f"the {gate.reference} has no such number") from error


def _number(model: Mapping[str, Any], parts: tuple[str, ...], path: str) -> float:
    """Raises NotMeasured if there is none; ConfigError if there could never be one."""
    value: Any = model
    for depth, part in enumerate(parts):
        if not isinstance(value, Mapping) or part not in value:
            if depth == 0 and part in TOPICS:
                raise NotMeasured(f"metrics.json has no `{part}` of the model; see the settings of evaluate")
            if parts[depth - 1] in OF_ROWS or (depth == 1 and parts[0] in BY_FAMILY):
                raise NotMeasured(f"no row of {OF_ROWS.get(parts[depth - 1], 'family')} `{part}`")
            if isinstance(value, Mapping) and "problem" in value:
                raise NotMeasured(str(value["problem"]))
            raise _unknown(path, list(number_paths(model)))
        value = value[part]
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise NotMeasured("it is null" if value is None else f"it is {value}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unknown(path, list(number_paths(model)), "is no number")
    return float(value)


def _unknown(path: str, known: Any, what: str = "is no number of a model in metrics.json") -> ConfigError:
    near = get_close_matches(path, known, SHOWN, 0.4) or sorted({split_path(each)[0] for each in known})
    fix = f"Near it: {', '.join(near)}" if near else "docs/evaluation.md has the numbers"
    return ConfigError(f"`{path}` {what}", where="gate.limits", fix=fix)


def _shown(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.4g}"
