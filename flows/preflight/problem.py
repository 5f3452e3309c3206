"""A problem that a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from tasks.errors import StropError, one_line
from tasks.runtime.redaction.text import redact

Severity = Literal["error", "warning", "skipped"]
"""An error stops a run. Skipped: the check needs the result of one that failed."""


@dataclass(frozen=True)
class Problem:
    severity: Severity
    what: str
    where: str | None = None
    """A file with its line, a setting, or an address."""
    fix: str | None = None
    check: str = ""
    """The name of the check in the table; filled in by the caller of the check."""

    def __str__(self) -> str:
        """In one line."""
        label = {"error": "", "warning": "warning: ", "skipped": f"{self.check}: "}[self.severity]
        place = f"{self.where}: " if self.where else ""
        return f"{label}{place}{self.what}{f'. {self.fix}' if self.fix else ''}"


def _problem(severity: Severity, what: str, where: str | None = None, fix: str | None = None) -> Problem:
    return Problem(severity, redact(what.strip()), where and redact(where), fix and redact(fix))


error, warning, skipped = partial(_problem, "error"), partial(_problem, "warning"), partial(_problem, "skipped")


def problems_of(cause: StropError, where: str | None = None, severity: Severity = "error") -> Iterator[Problem]:
    """The problems of an error: one, or one for each error that it lists.

    Args:
        where: a better location than the error's own, such as the line of the setting.
    """
    if cause.parts:
        yield from (_problem(severity, what, place, cause.fix) for place, what in cause.parts)
    else:
        yield _problem(severity, cause.what, where or cause.where, cause.fix)


def problems_in(
    work: Callable[[], object], where: str | None = None, severity: Severity = "error"
) -> Iterator[Problem]:
    """The problems of the error that `work` raises; as `problems_of`."""
    try:
        work()
    except StropError as cause:
        yield from problems_of(cause, where, severity)


def unexpected(cause: Exception) -> Problem:
    """The problem of a check that failed itself: no reason to stop a run that may succeed."""
    return warning(f"could not be checked ({type(cause).__name__}: {one_line(cause, 200)})")
