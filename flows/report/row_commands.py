"""The command that shows the rows behind a check of a verdict. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any

from tasks.state.verdict import outcome_of

CONDITIONS = {
    "floor": "score < 1",
    "limits": "score < 1",
    "degenerate": "degenerate != ''",
    "personal_data": "personal_data != ''",
    "golden": "use == 'golden' and score < 1",
}
"""Check that is about the candidate alone → the condition on its rows."""


def failed_checks(verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checks that kept a candidate from passing; none if it passed."""
    if outcome_of(verdict) == "passed":
        return []
    return [
        check
        for check in verdict["checks"]
        if (check["passed"] is False and check.get("tier") != "advisory")
        or (check["name"] == "better" and not check["passed"])
    ]


def command_for(check: Mapping[str, Any], verdict: Mapping[str, Any]) -> str | None:
    """The command that lists the rows that counted against the candidate; None for a check without rows.

    A candidate that passed may be the champion by then, so its reference is named by number. A floor is about the candidate
    alone, so its rows are all those that are not entirely right.
    """
    if (
        not check["rows"]
        or check["name"] == "inference"
        or (check["name"].startswith("limits/") and not check["family"])
    ):
        return None
    version = verdict["champion_version"]
    champion = f"v{version}" if outcome_of(verdict) == "passed" else "champion"
    reference = champion if version else "base"
    family = ["--family", check["family"]] if check["family"] else []
    rows = _rows_of(check, verdict.get("judged_families", ()))
    return " ".join(map(_quoted, ["strop", "compare", reference, "candidate", *family, *rows]))


def _quoted(argument: str) -> str:
    """As a shell needs it. A condition with single quotes is in double ones, unless these would change it: people read it."""
    if "'" in argument and not re.search(r'["$`\\]|!(?!=)', argument):
        return f'"{argument}"'
    return shlex.quote(argument)


def _rows_of(check: Mapping[str, Any], judged: Collection[str]) -> list[str]:
    """The options that select the rows of a check.

    Args:
        judged: the families whose scores are the judge's verdicts; a row of another family has none.
    """
    if check["name"].startswith("limits/grounding."):
        return ["--slice", "unsupported"]
    for column in ("degenerate", "personal_data"):
        if check["name"].startswith("limits/") and f".{column}." in check["name"]:
            return ["--slice", CONDITIONS[column]]
    if condition := CONDITIONS.get(check["name"].partition("/")[0]):
        return ["--slice", condition]
    where = check.get("where")
    if judged and (not check["family"] or check["family"] in judged):
        lost = "judge_score < first_judge_score"
        if not check["family"]:
            return ["--slice", f"{lost} or family not in {sorted(judged)!r} and score < first_score"]
        return ["--slice", f"({where}) and {lost}" if where else lost]
    return [*(["--slice", where] if where else []), "--show", "lost"]
