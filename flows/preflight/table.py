"""The table of checks, in the order of the report. A new check is a function and a line here (docs/extend.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from flows.preflight import (
    checks,
    evaluation_checks,
    gate_check,
    remote_checks,
    serve_check,
    signing_check,
    training_checks,
)
from flows.preflight.problem import Problem, problems_of, unexpected
from flows.preflight.project import Project
from tasks.errors import StropError


@dataclass(frozen=True)
class Check:
    function: Callable[[Project], Iterable[Problem] | None]
    """Yields problems, or raises a StropError, which is an error that stops a run."""
    needs: tuple[str, ...] = ()
    """Sections of params.yaml that must be valid, and checks above that must have found no error."""
    runs: Literal["here", "thread", "process"] = "here"
    """`thread`: it may wait for another machine, so it has a time limit. `process`: it needs torch."""

    @property
    def name(self) -> str:
        return self.function.__name__


CHECKS = (
    Check(checks.params),
    Check(checks.environment),
    Check(checks.git),
    Check(checks.dvc),
    Check(checks.ledger, needs=("git", "register")),
    Check(signing_check.signing, needs=("git", "signing")),
    Check(checks.raw_data, needs=("dvc",)),
    Check(checks.contract),
    Check(checks.templates),
    Check(checks.formats, needs=("templates", "ingest", "finetune")),
    Check(gate_check.gate_policy, needs=("gate",)),
    Check(serve_check.records, needs=("serve", "retention", "promote")),
    Check(evaluation_checks.judge, needs=("evaluate",)),
    Check(checks.code_execution, needs=("evaluate",)),
    Check(evaluation_checks.further_tests, needs=("templates", "evaluate", "finetune")),
    Check(checks.disk),
    Check(remote_checks.sources, needs=("ingest",), runs="thread"),
    Check(remote_checks.registry, needs=("register",), runs="thread"),
    Check(remote_checks.remote, needs=("dvc", "register"), runs="thread"),
    Check(remote_checks.ledger_remote, needs=("git", "register"), runs="thread"),
    Check(remote_checks.base, needs=("base",), runs="thread"),
    Check(remote_checks.encoder, needs=("evaluate",), runs="thread"),
    Check(remote_checks.champion, needs=("ledger", "register", "finetune"), runs="thread"),
    Check(training_checks.lm_eval, needs=("evaluate",), runs="process"),
    Check(training_checks.method, needs=("finetune",), runs="process"),
    Check(training_checks.trainer, needs=("finetune",), runs="process"),
    Check(training_checks.schedule, needs=("finetune",), runs="process"),
    Check(training_checks.launch, needs=("finetune",), runs="process"),
    Check(training_checks.precision, needs=("finetune", "evaluate"), runs="process"),
    Check(training_checks.model, needs=("finetune", "render", "base"), runs="process"),
    Check(training_checks.teacher, needs=("finetune", "register", "base"), runs="process"),
    Check(training_checks.reward_model, needs=("finetune", "register"), runs="process"),
)


def run_check(check: Check, project: Project) -> list[Problem]:
    """The problems that a check finds; its own failure is one of them."""
    try:
        return list(check.function(project) or ())
    except StropError as error:
        return list(problems_of(error))
    except Exception as error:  # noqa: BLE001
        return [unexpected(error)]
