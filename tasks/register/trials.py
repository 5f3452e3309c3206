"""The trials of a search as runs beneath the candidate's: what each tried, its validation losses, and how it ended."""

from __future__ import annotations

from typing import Any

from tasks.tracking.live_metrics import PARENT_TAG, TRIAL_STATE_TAG, TRIAL_TAG, trial_name
from tasks.tracking.registry import Registry
from tasks.tracking.runs import Point

STATUS = {"complete": "FINISHED", "repeated": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def complete_trials(registry: Registry, run_id: str, search: dict[str, Any] | None) -> None:
    """Makes a run of each trial, or completes the one that mirrored it live. Done again, it adds nothing."""
    for trial in search["trials"] if search else ():
        key = f"{run_id}/{trial['number']}"
        tags = {PARENT_TAG: run_id, TRIAL_TAG: key}
        child = registry.find_run(TRIAL_TAG, key) or registry.create_run(trial_name(trial["number"]), tags)
        registry.tag_run(
            child, {TRIAL_STATE_TAG: trial["state"], **({"strop.told": trial["told"][:500]} if "told" in trial else {})}
        )
        registry.log_params(child, trial["parameters"])
        points = [Point("train/valid_loss", loss, int(step)) for step, loss in trial["valid_losses"].items()]
        if trial["valid_loss"] is not None:
            points.append(Point("valid_loss", trial["valid_loss"], 0))
        registry.log_points(child, points)
        registry.end_run(child, STATUS[trial["state"]])
