"""The check of what `strop serve` needs to decide about a canary."""

from __future__ import annotations

from collections.abc import Iterator

from flows.preflight.problem import Problem, warning
from flows.preflight.project import Project
from tasks.serve.record.problems import record_problems


def records(project: Project) -> Iterator[Problem]:
    """Ratings of a canary are kept until they decide."""
    for what, fix in record_problems(project.config):
        yield warning(what, project.where("serve"), fix)
