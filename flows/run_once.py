"""One run in this process: the quick check first, then a Prefect server if there is none, then the flow.

Called by `strop run` and the demo.
"""

from __future__ import annotations

from contextlib import chdir, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flows.change_check import is_clean, is_nothing_new, nothing_new
from flows.outcome import Outcome
from flows.preflight.run import load_ready_config, ready_to_run
from flows.return_to_champion import follow_ledger
from flows.runtime.environment import prepare_environment, silence_libraries
from flows.runtime.lock import one_run_at_a_time
from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import StropError
from tasks.runtime.fast_imports import importing
from tasks.vcs.dvc_plugins import are_plugins_recorded

if TYPE_CHECKING:
    from flows.report.summary import Summary


def run_once(rejudge: bool = False) -> Outcome:
    """Runs the flow in the project in the working directory.

    Raises:
        StropError: an error that the user can fix, in one line.
        NotReady: a check before the run found an error; nothing was collected or changed.
        KeyboardInterrupt: it was stopped; the next run continues there.
    """
    prepare_environment(Path.cwd())
    config = load_ready_config()
    with one_run_at_a_time():
        finish_erasing()
        follow_ledger(config)
        if not rejudge and are_plugins_recorded() and is_nothing_new(config):
            return nothing_new(config)
        silence_libraries()
        from flows.runtime.prefect_server import ensure_server, reporting_lost_server

        with ready_to_run(), reporting_lost_server():
            ensure_server()
            with importing():
                from flows.retrain import retrain

            outcome = retrain(project=str(Path.cwd()), rejudge=rejudge)
        assert isinstance(outcome, Outcome)
        with suppress(StropError):  # only to make the next check fast
            is_clean()
        return outcome


def summary_of_run(config: PipelineConfig) -> Summary:
    """The summary of the run that has just ended, from its folder: changes in the project since its start belong to the next
    run."""
    from flows.report.summary import read_summary

    with chdir(paths.WORK):
        return read_summary(config)


def finish_erasing() -> None:
    """Completes an interrupted erasure, before its rows are used again."""
    if paths.ERASING.exists():
        from tasks.erase.stage import resume

        resume()
