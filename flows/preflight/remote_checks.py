"""The checks that may wait for another machine: each runs in a thread, with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

from flows.preflight.checks import missing_variables_of
from flows.preflight.problem import Problem, error, problems_in, problems_of, skipped, unexpected, warning
from flows.preflight.project import Location, Project
from flows.preflight.time_limit import TIME_LIMIT_SECONDS, run_at_once
from tasks.errors import StropError
from tasks.ingest.settings import Source

MLFLOW = threading.Lock()
"""MLflow has one login for a process, in the environment."""


def sources(project: Project) -> Iterator[Problem]:
    """The files, tables, datasets and experiments of the sources exist and can be opened."""
    from tasks.state.manifest import read_manifest

    if not project.config.ingest.sources and project.has_all_sources and not read_manifest():
        fix = "Declare one: docs/settings.md shows how, recipes/ has examples"
        yield error("declares no source", "params.yaml, section `ingest`", fix)
    named = [entry for entry in project.sources() if not missing_variables_of(project, entry[0])]
    results = run_at_once([partial(_require, source) for _, source in named])
    for (location, source), result in zip(named, results, strict=True):
        # the setting that names what is read
        settings = ("path", "table", "query", "experiment", "name")
        setting = next(name for name in settings if getattr(source, name, None))
        yield from _problems(project, (*location, setting), result)


def _require(source: Source) -> None:
    from tasks.ingest.connectors.connect import connect, require_source

    with MLFLOW if connect(source).uses_mlflow else nullcontext():
        require_source(source)


def _problems(project: Project, location: Location, result: object) -> Iterator[Problem]:
    where = project.where(*location)
    if isinstance(result, StropError):
        yield from problems_of(result, f"{where} ({result.where})" if result.where else where)
    elif isinstance(result, TimeoutError):
        yield warning(f"did not answer within {TIME_LIMIT_SECONDS:.0f} s", where, "Check the address and the network")
    elif isinstance(result, Exception):
        yield unexpected(result)


def registry(project: Project) -> None:
    """The registry can be reached and written to."""
    from tasks.tracking.access import require_registry

    if not missing_variables_of(project, ("register",)):
        with MLFLOW:
            require_registry(project.config)


def remote(project: Project) -> Iterator[Problem]:
    """The DVC remote can be reached; a run stores versions on this machine as well."""
    from tasks.vcs.dvc_pipeline import require_remote

    if project.config.register_.push:
        yield from problems_in(require_remote, severity="warning")


def ledger_remote(project: Project) -> Iterator[Problem]:
    """The git remote that shares the ledger can be read and pushed to, and has not lost it."""
    from tasks.model_store.ledger_loss import require_ledger
    from tasks.vcs.git_remote import require_writable

    if name := project.config.register_.ledger_remote:
        where, model = project.where("register", "ledger_remote"), project.config.register_.model_name
        yield from problems_in(partial(require_writable, name), where)
        yield from problems_in(partial(require_ledger, model, name), where)


def base(project: Project) -> Iterator[Problem]:
    """The base model exists, and its files are the pinned ones."""
    if project.base is None:
        what = "not on this disk yet: it is created from the first rows, or downloaded by the run"
        yield skipped(what, project.where("base", "model"))


def encoder(project: Project) -> Iterator[Problem]:
    """The sentence encoder of `evaluate` exists."""
    from tasks.evaluate.encoder import find_encoder, require_encoder

    if (name := project.config.evaluate.encoder) is not None:
        # a hub id is downloaded by `evaluate`
        yield from problems_in(
            lambda: require_encoder(name) or find_encoder(name), project.where("evaluate", "encoder")
        )


def champion(project: Project) -> None:
    """The candidate can be compared with the champion: the same base, and the same kind of model."""
    from tasks.ingest.resolve_training_start import require_comparable_version
    from tasks.model_store.ledger import champion_of, read_ledger

    serving = champion_of(read_ledger(project.config.register_.model_name))
    if serving is not None:
        require_comparable_version(serving.version, project.base_digest, project.config)
