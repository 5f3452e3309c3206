"""One run from this process: the quick scan first, then a Prefect server if there is none, then the flow.

`strop run` and the demo call `run_once`.
"""

from __future__ import annotations

from contextlib import chdir, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flows.change_check import is_clean, is_nothing_new, nothing_new
from flows.outcome import Outcome
from flows.return_to_champion import follow_ledger
from flows.runtime.environment import prepare_environment, show_only_our_lines
from flows.runtime.lock import one_run_at_a_time
from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.errors import StropError
from tasks.runtime.fast_imports import importing

if TYPE_CHECKING:
    from flows.report.summary import Summary


def run_once(rejudge: bool = False) -> Outcome:
    """Runs the flow in the project that the process stands in.

    Raises:
        StropError: the user's situation, in one line.
        KeyboardInterrupt: it was stopped; the next run goes on where it was.
    """
    config = load_config()
    prepare_environment(Path.cwd())
    with one_run_at_a_time():
        finish_erasing()
        follow_ledger(config)
        if not rejudge and is_nothing_new(config):
            return nothing_new(config)
        show_only_our_lines()
        from flows.runtime.prefect_server import ensure_server, reporting_a_lost_server

        with reporting_a_lost_server():
            ensure_server()
            with importing():
                from flows.retrain import retrain

            outcome = retrain(project=str(Path.cwd()), rejudge=rejudge)
        assert isinstance(outcome, Outcome)
        with suppress(StropError):  # only so that the next look is quick
            is_clean()
        return outcome


def summary_of_run(config: PipelineConfig) -> Summary:
    """Of the run that has just ended, from the folder that it worked in: what was edited meanwhile, or damaged, belongs to
    the next one."""
    from flows.report.summary import read_summary

    with chdir(paths.WORK):
        return read_summary(config)


def finish_erasing() -> None:
    """Rows whose erasing was cut short go before anything is made of them again."""
    if paths.ERASING.exists():
        from tasks.erase.stage import resume

        resume()
