"""What a stored verdict (data/reports/verdict.json) says, in words. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MANY_ROWS = 1_000_000
"""More rows than this are not counted."""


def outcome_of(verdict: Mapping[str, Any]) -> str:
    """`passed`, `refused` or `inconclusive`; verdicts of earlier releases have only `passed`."""
    return str(verdict.get("outcome") or ("passed" if verdict["passed"] else "refused"))


def failed_checks(verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checks that did not pass and count."""
    return [check for check in verdict["checks"] if check["passed"] is False and check.get("tier") != "advisory"]


def rows_needed_text(rows: int | None) -> str:
    """`, about 120 more test rows would decide`; "" for None."""
    if rows is None:
        return ""
    return f", {'a million or more' if rows >= MANY_ROWS else f'about {rows:,} more'} test rows would decide"
