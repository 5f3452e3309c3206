"""The flow's steps as Prefect tasks: each calls a room. Steps that depend on the network are retried."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from flows import promotion_decision
from flows import return_to_champion as settling
from flows.lineage_events import dataset_versions, reported_stage
from flows.outcome import STATE_NAMES, Outcome
from flows.report.markdown import as_markdown, score_rows
from flows.report.summary import read_summary
from flows.runtime.environment import end_with_schedule, is_scheduled, prepare_environment
from flows.runtime.interruptible import run_interruptibly
from flows.runtime.lock import one_run_at_a_time
from flows.runtime.proxies import use_proxies_again
from flows.runtime.snapshot import in_the_project
from flows.runtime.stored_errors import with_storable_errors
from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import RegistryError
from tasks.promote.candidates import NotPromotable
from tasks.runtime.files import write_text
from tasks.runtime.logs.formats import error_fields
from tasks.runtime.logs.setup import set_up_logs
from tasks.runtime.run_origin import project

logger = logging.getLogger(__name__)

RETRYABLE = (RegistryError, ConnectionError, TimeoutError)
"""Errors that may be temporary."""


@contextmanager
def working_in(project: str, is_exclusive: bool = True) -> Iterator[None]:
    """Changes to the project, prepares its environment, and excludes other runs if it is exclusive."""
    set_up_logs()  # of a process that Prefect started
    end_with_schedule()
    use_proxies_again()
    with chdir(project):
        prepare_environment(Path.cwd())
        with one_run_at_a_time() if is_exclusive else nullcontext(), with_storable_errors():
            yield


def should_retry(_: Any, run: TaskRun, state: State) -> bool:
    """Whether to retry a failed task; reports it."""
    error = state.result(raise_on_failure=False)
    if not isinstance(error, RETRYABLE) or isinstance(error, NotPromotable):
        return False
    logger.warning(f"strop: {error} Trying again.", extra=error_fields(error))
    return True


WITH_RETRIES: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 2,
    "retry_delay_seconds": [2, 10],
    "retry_condition_fn": should_retry,
}


@task(**WITH_RETRIES)
@with_storable_errors()
def ingest(config: PipelineConfig, rejudge: bool) -> None:
    from tasks.ingest.open_round import open_round
    from tasks.ingest.stage import collect
    from tasks.workspace.run_folder import hand_over, take_collected

    def work() -> None:
        with in_the_project():
            collect(config)
        take_collected()
        open_round(config, rejudge)
        hand_over()

    with reported_stage("ingest") as stage:
        run_interruptibly(work)
        stage.outputs = dataset_versions(paths.RAW)


@task(cache_policy=NO_CACHE, task_run_name="{stage}")
@with_storable_errors()
def reproduce(stage: str) -> bool:
    return run_interruptibly(lambda: reproduce_and_hand_over(stage))


def reproduce_and_hand_over(stage: str) -> bool:
    """Brings the stage up to date, and copies its outputs to the project, also if it failed."""
    from tasks.vcs.dvc_pipeline import reproduce
    from tasks.workspace.run_folder import hand_over

    with reported_stage(stage) as lineage:
        try:
            has_run = reproduce(stage)
        finally:
            hand_over(stage)
        lineage.is_cached = not has_run
        return has_run


@task(cache_policy=NO_CACHE)
@with_storable_errors()
def report_drift(config: PipelineConfig) -> None:
    """Reports the drift from the champion's dataset; only a limit on `drift.max_psi` in the gate's policy depends on it."""
    from tasks.lineage.drift_report import report_against_champion

    run_interruptibly(lambda: report_against_champion(config.register_.model_name))


@task(cache_policy=NO_CACHE)
@with_storable_errors()
def report_run(config: PipelineConfig) -> None:
    """Writes the HTML report, which `register` logs; it has no influence on the run."""
    from flows.report.run_report.page import write_report

    run_interruptibly(lambda: write_report(config))


@task(cache_policy=NO_CACHE)
@with_storable_errors()
def finetune(config: PipelineConfig) -> bool:
    from tasks.tracking.live_metrics import mirror_curves
    from tasks.tracking.search_plots import draw_last_search

    with mirror_curves(config):
        has_run = run_interruptibly(lambda: reproduce_and_hand_over("finetune"))
    draw_last_search()
    return has_run


@task(cache_policy=NO_CACHE)
@with_storable_errors()
def follow_ledger(config: PipelineConfig) -> None:
    run_interruptibly(lambda: settling.follow_ledger(config))


@task(cache_policy=NO_CACHE)
@with_storable_errors()
def return_to_champion(config: PipelineConfig) -> Outcome | None:
    return settling.return_to_champion(config)


@task(**WITH_RETRIES)
@with_storable_errors()
def register(config: PipelineConfig) -> Any:
    from tasks.register.stage import run

    with reported_stage("register") as lineage:
        registered = run_interruptibly(lambda: run(config))
        lineage.inputs = dataset_versions(paths.MODEL, paths.METRICS, paths.VERDICT)
        lineage.outputs = {config.register_.model_name: str(registered.version)}
        return registered


@task(**WITH_RETRIES)
@with_storable_errors()
def deliver(config: PipelineConfig, registered: Any) -> Outcome:
    return run_interruptibly(lambda: promotion_decision.deliver(config, registered))


@task(**WITH_RETRIES)
@with_storable_errors()
def approve_version(config: PipelineConfig, version: int, why: str, who: str) -> Any:
    from tasks.promote.approval import approve

    return run_interruptibly(lambda: approve(config, version, why, who))


@task(cache_policy=NO_CACHE)
@with_storable_errors()
def publish(config: PipelineConfig, outcome: Outcome) -> None:
    """Writes the summary to a file and to a Prefect artifact, there without texts of rows, which could not be erased."""
    summary = read_summary(config)
    write_text(paths.SUMMARY, as_markdown(summary, outcome))
    address = (Path(project()) / paths.REPORT).as_uri()
    public = as_markdown(summary, outcome, shows_answers=False, report=address)
    create_markdown_artifact(public, key="summary", description=outcome.message)
    create_table_artifact(score_rows(summary), key="scores", description="The same held-out rows for every model")


def end_state(outcome: Outcome) -> State:
    """The outcome as a named state for Prefect's UI and automations."""
    if is_scheduled():  # a command prints it, with the summary
        logger.info(outcome.message)
    state: State = Completed(name=STATE_NAMES[outcome.kind], message=outcome.message, data=outcome)
    return state
