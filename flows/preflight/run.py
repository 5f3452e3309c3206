"""Runs the checks: all of them for `strop check`; before a run, those that need torch only if their inputs have changed.

    report = check_project()
    with ready_to_run():      # raises NotReady where a check finds an error
        ...

docs/decisions/0021-preflight.md
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from flows.preflight.problem import Problem, skipped, warning
from flows.preflight.process import run_in_process
from flows.preflight.project import SECTIONS, Project, read_project
from flows.preflight.table import CHECKS, Check, run_check
from flows.preflight.time_limit import TIME_LIMIT_SECONDS, run_at_once
from tasks.config import PipelineConfig
from tasks.errors import StropError
from tasks.runtime.plurals import count_of

logger = logging.getLogger(__name__)
_is_ready: ContextVar[bool] = ContextVar("_is_ready", default=False)


@dataclass(frozen=True)
class Report:
    problems: tuple[Problem, ...]
    """In the order of the table."""
    checks: int = len(CHECKS)

    @property
    def is_ready(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def summary(self) -> str:
        """One sentence."""
        counts = {name: sum(p.severity == name for p in self.problems) for name in ("error", "warning", "skipped")}
        parts = [count_of(counts["error"], "error"), count_of(counts["warning"], "warning")]
        parts += [f"{counts['skipped']} not checked"] if counts["skipped"] else []
        verdict = "The project is ready to run" if self.is_ready else "The project cannot run"
        return f"{verdict}: {count_of(self.checks, 'check')}, {', '.join(parts)}."

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.is_ready, "problems": [asdict(problem) for problem in self.problems]}


class NotReady(StropError):
    """A run cannot succeed; nothing was collected or changed."""


def not_ready(report: Report) -> NotReady:
    """The error with all problems; a single one in its own words."""
    if len(report.problems) == 1:
        (problem,) = report.problems
        return NotReady(problem.what, where=problem.where, fix=problem.fix)
    lines = "".join(f"\n  {problem}" for problem in report.problems)
    return NotReady(f"{report.summary}{lines}\n", fix="Fix them, then check again: strop check")


def check_project() -> Report:
    """Runs every check on the project in the working directory."""
    return _report(read_project(), uses_cache=False)


def load_ready_config() -> PipelineConfig:
    """The settings.

    Raises:
        NotReady: params.yaml is invalid; the report has the errors of all other checks as well.
    """
    project = read_project()
    if project.invalid is not None:
        raise not_ready(_report(project, uses_cache=True)) from project.invalid
    return project.config


@contextmanager
def ready_to_run() -> Iterator[None]:
    """Checks the project, and logs warnings; within the block it is not checked again.

    Raises:
        NotReady: a check found an error.
    """
    require_ready()
    token = _is_ready.set(True)
    try:
        yield
    finally:
        _is_ready.reset(token)


def require_ready() -> None:
    """As `ready_to_run`, for a flow, which the command calls within that block."""
    if _is_ready.get():
        return
    report = _report(read_project(), uses_cache=True)
    if not report.is_ready:
        raise not_ready(report)
    for problem in report.problems:
        if problem.severity == "warning":
            logger.warning("check: %s", problem)


def _report(project: Project, uses_cache: bool) -> Report:
    results: dict[str, list[Problem]] = {}

    def ready(runs: str) -> Iterator[Check]:
        """The checks of this kind that can run; for the others, the result says why not."""
        for check in CHECKS:
            if check.runs == runs:
                results[check.name] = _blocked(check, project, results)
                if not results[check.name]:
                    yield check

    for check in ready("here"):
        results[check.name] = run_check(check, project)
    calls = list(ready("thread"))
    outcomes = run_at_once([partial(run_check, check, project) for check in calls], TIME_LIMIT_SECONDS + 5)
    results |= {check.name: _timed(result) for check, result in zip(calls, outcomes, strict=True)}
    names = [check.name for check in ready("process")]
    results |= run_in_process(names, project, uses_cache) if names else {}
    return Report(tuple(replace(problem, check=check.name) for check in CHECKS for problem in results[check.name]))


def _timed(result: Any) -> list[Problem]:
    if isinstance(result, TimeoutError):
        return [warning(f"no answer within {TIME_LIMIT_SECONDS + 5:.0f} s", fix="Check the network")]
    problems: list[Problem] = result
    return problems


def _blocked(check: Check, project: Project, results: dict[str, list[Problem]]) -> list[Problem]:
    """Why the check cannot run: it needs a section of params.yaml that is invalid, or a check that failed."""
    missing = [f"section `{name}`" for name in check.needs if name in SECTIONS - project.valid_sections]
    has_failed = [name for name in check.needs if any(p.severity != "warning" for p in results.get(name, ()))]
    causes = [*missing, *(f"check `{name}`" for name in has_failed)]
    return [skipped(f"not checked: it needs {' and '.join(causes)}")] if causes else []
