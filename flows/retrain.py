"""THE flow: what was collected → a model that serves, if it is shown to be better. One line a room.

strop run                                        # in this terminal
strop schedule --cron "0 2 * * 0"                # on a clock
prefect deploy --all                             # for a work pool (prefect.yaml)
"""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.change_check import is_nothing_new, nothing_new
from flows.runtime.snapshot import on_a_snapshot
from flows.steps import (
    at_work_in,
    concluded,
    deliver,
    finetune,
    follow_ledger,
    ingest,
    publish,
    register,
    report_drift,
    reproduce,
    return_to_champion,
)
from tasks.config import load_config


@flow(name="retrain", description="Retrains on what is new, and promotes only what is shown to be better.")
def retrain(project: str = ".", rejudge: bool = False) -> State:
    """Ends in a state of type Completed, named as flows/outcome.py says: NothingNew, Promoted, Refused, ..."""
    with at_work_in(project):
        config = load_config()
        follow_ledger(config)
        if not rejudge and is_nothing_new(config):
            return concluded(nothing_new(config))
        with on_a_snapshot() as config:
            ingest(config, rejudge)
            reproduce("validate")
            reproduce("curate")
            report_drift(config)
            reproduce("render")
            finetune(config)
            returned = return_to_champion(config)
            reproduce("evaluate")
            reproduce("gate")
            outcome = returned or deliver(config, register(config))
            publish(config, outcome)
            return concluded(outcome)
