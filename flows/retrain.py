"""The retraining flow: collected rows → a model that serves, if it is significantly better. One line per room.

strop run                                        # in this terminal
strop schedule --cron "0 2 * * 0"                # on a clock
prefect deploy --all                             # for a work pool (prefect.yaml)
"""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.change_check import is_nothing_new, nothing_new
from flows.lineage_events import reported_run
from flows.preflight.run import load_ready_config, require_ready
from flows.runtime.snapshot import on_a_snapshot
from flows.steps import (
    deliver,
    end_state,
    finetune,
    follow_ledger,
    ingest,
    publish,
    register,
    report_drift,
    report_run,
    reproduce,
    return_to_champion,
    working_in,
)
from tasks.state.input_folders import begin_input_folders
from tasks.vcs.dvc_plugins import are_plugins_recorded, record_plugins


@flow(name="retrain", description="Retrains on new data, and promotes only a significantly better model.")
def retrain(project: str = ".", rejudge: bool = False) -> State:
    """Ends in a state of type Completed with a name from flows/outcome.py: NothingNew, Promoted, Refused, ..."""
    with working_in(project):
        config = load_ready_config()
        follow_ledger(config)
        if not rejudge and are_plugins_recorded() and is_nothing_new(config):
            return end_state(nothing_new(config))
        require_ready()
        record_plugins()
        begin_input_folders()
        with on_a_snapshot() as config, reported_run(config):
            ingest(config, rejudge)
            reproduce("validate")
            reproduce("curate")
            report_drift(config)
            reproduce("render")
            finetune(config)
            returned = return_to_champion(config)
            reproduce("evaluate")
            reproduce("gate")
            report_run(config)
            outcome = returned or deliver(config, register(config))
            publish(config, outcome)
            return end_state(outcome)
