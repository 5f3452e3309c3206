"""A verdict in sentences for readers who are not statisticians. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.state.verdict import MANY_ROWS, failed_checks, outcome_of

Verdict = Mapping[str, Any]
Check = Mapping[str, Any]

COMPARED = ("not_worse", "no_regression", "slices")
"""The checks of a difference from the reference, with an interval."""
MARKS = {True: "passed", False: "failed", None: "not counted"}


def reference_name(verdict: Verdict) -> str:
    version = verdict["champion_version"]
    return f"the champion (version {version})" if version else "the base model"


def sentences(verdict: Verdict) -> list[str]:
    """The result, what it means, and each check that failed."""
    result, reference = outcome_of(verdict), reference_name(verdict)
    rows = f"{verdict['test_rows']:,} test rows"
    failed = failed_checks(verdict)
    better = next((check for check in verdict["checks"] if check["name"] == "better"), None)
    only_reported = [check["name"] for check in verdict["checks"] if check["passed"] is False and check not in failed]
    others = f"; checks that are only reported failed: {', '.join(only_reported)}" if only_reported else ""
    no_worse = others or ", and no check found it worse"
    decided = {
        "passed": f"The new model passed: on {rows} it answers better than {reference}{no_worse}.",
        "refused": f"The new model was refused. It was compared with {reference} on {rows}; {_serves(verdict)}",
        "inconclusive": f"These {rows} cannot decide whether the new model is better than {reference}: "
        f"{_serves(verdict)}{_needed(verdict)}",
    }
    lines = [decided[result]]
    if better is not None and better["passed"] is not None:
        lines.append(explain(better, verdict))
    lines += [explain(check, verdict) for check in failed if check["name"] != "better"]
    if verdict["look"] > 1:
        lines.append(
            f"These test rows were used for {verdict['look']} verdicts. Each further verdict on the same rows is another chance "
            "of a lucky result, so it needs stronger evidence."
        )
    return lines


def explain(check: Check, verdict: Verdict) -> str:
    """One or two sentences about a check; the gate's own detail where the check is not one of Strop's."""
    words = _explain(check, verdict)
    return words if check["passed"] is not None else f"{words} It has too few test rows to count ({check['rows']:,})."


def _explain(check: Check, verdict: Verdict) -> str:
    kind, reference = check["name"].split("/")[0], reference_name(verdict)
    where = f"In {check['family']}" if check["family"] else "Over all families"
    number, interval = check["number"], check["interval"]
    if kind == "better" and number is not None:
        return _explain_better(check, reference)
    if number is None or (kind != "floor" and (interval is None or kind not in COMPARED)):
        return f"{check['name']}: {check['detail']}."
    if kind == "floor":
        is_enough = "which is enough" if number >= check["bound"] else "which is not enough"
        return f"{where} the new model scores {number:.1%}, {is_enough}: at least {check['bound']:.1%} is required."
    low, high = interval
    margin = abs(check["bound"])
    measured = f"{where} the new model scores {_points(number)} than {reference}"
    span = f"the true difference is likely between {_signed(low)} and {_signed(high)} points"
    if kind == "no_regression":
        result = "It is not shown to be worse." if check["passed"] else "So it became worse there."
        return f"{measured}, on the test rows that existed before the newest data; {span}. {result}"
    if kind == "slices":
        where, loss = check["name"].split("/", 2)[2], f"a loss of more than {100 * margin:.1f} points"
        shown = f"That shows {loss}, also if all slices are considered."
        result = f"So {loss} is not shown." if check["passed"] else shown
        return f"{measured}, on the rows with {where}; {span}. {result}"
    if check["passed"]:
        return f"{measured}; {span}. A loss of more than {100 * margin:.1f} points is ruled out."
    if high < -margin:
        return f"{measured}; {span}. That is worse than the loss of {100 * margin:.1f} points that is allowed."
    return (
        f"{measured}; {span}. A loss of more than {100 * margin:.1f} points is not ruled out; more test rows in this family make "
        "the range narrower."
    )


def _explain_better(check: Check, reference: str) -> str:
    span = f"over all families together, compared with {reference}"
    if check["interval"]:
        low, high = check["interval"]
        span = f"the true difference from {reference} is likely between {_signed(low)} and {_signed(high)} points"
    chance = f"a model that is no better would do this well with a probability of {_probability(check['number'])}"
    limit = f"at most {_probability(check['bound'])} is accepted"
    shown = "It is shown to be better" if check["passed"] else "It is not shown to be better"
    return f"{shown}: {span}; {chance}, and {limit}."


def _needed(verdict: Verdict) -> str:
    rows = verdict.get("rows_needed")
    if rows is None:
        return ""
    return f" {'A million or more' if rows >= MANY_ROWS else f'About {rows:,} more'} test rows would decide it."


def _serves(verdict: Verdict) -> str:
    return "the champion stays in service." if verdict["champion_version"] else "no model serves yet."


def _points(difference: float) -> str:
    if abs(difference) < 0.0005:
        return "no higher and no lower"
    return f"{100 * abs(difference):.1f} points {'higher' if difference > 0 else 'lower'}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _probability(p: float) -> str:
    return "less than 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"
