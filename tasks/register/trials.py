"""The trials of a search as child runs of the candidate's run: parameters, validation losses and final state."""

from __future__ import annotations

from typing import Any

from tasks.tracking.live_metrics import trial_name
from tasks.tracking.registry import Registry
from tasks.tracking.runs import Point
from tasks.tracking.tags import PARENT_TAG, TRIAL_MESSAGE_TAG, TRIAL_STATE_TAG, TRIAL_TAG

STATUS = {"complete": "FINISHED", "repeated": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def complete_trials(registry: Registry, run_id: str, search: dict[str, Any] | None) -> None:
    """Creates a run for each trial, or completes its live run. Idempotent."""
    for trial in search["trials"] if search else ():
        key = f"{run_id}/{trial['number']}"
        tags = {PARENT_TAG: run_id, TRIAL_TAG: key}
        child = registry.find_run(TRIAL_TAG, key) or registry.create_run(trial_name(trial["number"]), tags)
        registry.tag_run(
            child,
            {TRIAL_STATE_TAG: trial["state"], **({TRIAL_MESSAGE_TAG: trial["told"][:500]} if "told" in trial else {})},
        )
        registry.log_params(child, trial["parameters"])
        points = [Point("train/valid_loss", loss, int(step)) for step, loss in trial["valid_losses"].items()]
        if trial["valid_loss"] is not None:
            points.append(Point("valid_loss", trial["valid_loss"], 0))
        registry.log_points(child, points)
        registry.end_run(child, STATUS[trial["state"]])
