"""Completes the MLflow run of a candidate from files: parameters, curves, metrics, plots and the training dataset.

The live run of the training is reused if there is one; missing values are added.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks import paths
from tasks.model_store.approvals import CARD
from tasks.model_store.logged_files import is_report_of
from tasks.register.ml_bom import BOM, ml_bom
from tasks.register.model_card import model_card
from tasks.runtime.files import read_object
from tasks.tracking.live_metrics import read_points, trial_name
from tasks.tracking.registry import Registry
from tasks.tracking.run_record import numbers_of, params_of
from tasks.tracking.runs import Point
from tasks.tracking.search_plots import draw_search
from tasks.tracking.tags import (
    DATASET_TAG,
    PARENT_TAG,
    RECEIPT_TAG,
    TRIAL_MESSAGE_TAG,
    TRIAL_STATE_TAG,
    TRIAL_TAG,
    WEIGHTS_TAG,
)

STATUS = {"complete": "FINISHED", "repeated": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
"""State of a search's trial → status of its run."""


def complete_run(registry: Registry, receipt: dict[str, Any], key: str, root: Path = Path()) -> str:
    """The id of the receipt's run, with its complete content.

    Args:
        root: the folder with the candidate's data/model and data/reports.
    """
    run_id = registry.find_run(RECEIPT_TAG, key) or _live_run(registry, receipt["weights"])
    if run_id is None:
        run_id = registry.create_run("candidate", {RECEIPT_TAG: key})
    registry.tag_run(run_id, {RECEIPT_TAG: key, WEIGHTS_TAG: receipt["weights"], DATASET_TAG: receipt["dataset"]})
    registry.log_params(run_id, params_of(receipt))
    registry.log_points(run_id, read_points(root / paths.MODEL / "curves.jsonl"))
    if search := receipt.get("training", {}).get("search"):
        complete_trials(registry, run_id, search)
        draw_search(search, root / paths.SEARCH_PLOTS)
        registry.log_files(run_id, root / paths.SEARCH_PLOTS, "search")
    numbers = numbers_of(receipt["metrics"])
    if drift := _drift(receipt["dataset"], root):
        numbers |= {
            f"drift/{measure['family']}/{measure['what']}/psi".replace(" ", "_"): measure["psi"] for measure in drift
        }
        for path in (paths.DRIFT, paths.DRIFT_PLOT):
            registry.log_files(run_id, root / path)
    registry.log_points(run_id, [Point(name, value, 0) for name, value in numbers.items()])
    registry.log_dataset(run_id, "curated", receipt["dataset"], f"dvc:{paths.CURATED}")
    for path, folder in ((paths.PLOTS, "plots"), (paths.RECEIPT, None), (paths.VERDICT, None), (paths.METRICS, None)):
        registry.log_files(run_id, root / path, folder)
    with TemporaryDirectory(prefix="strop-card-") as scratch:
        for name, text in ((CARD, model_card(receipt, registry.model)), (BOM, ml_bom(receipt, registry.model))):
            (Path(scratch) / name).write_text(text, encoding="utf-8")
            registry.log_files(run_id, Path(scratch) / name)
    if is_report_of(root / paths.REPORT, receipt["verdict"]):
        registry.log_files(run_id, root / paths.REPORT)
    registry.end_run(run_id)
    return run_id


def complete_trials(registry: Registry, run_id: str, search: dict[str, Any]) -> None:
    """Creates a child run for each trial of a search, or completes its live run. Idempotent."""
    for trial in search["trials"]:
        key = f"{run_id}/{trial['number']}"
        tags = {PARENT_TAG: run_id, TRIAL_TAG: key}
        child = registry.find_run(TRIAL_TAG, key) or registry.create_run(trial_name(trial["number"]), tags)
        message = {TRIAL_MESSAGE_TAG: trial["told"][:500]} if "told" in trial else {}
        registry.tag_run(child, {TRIAL_STATE_TAG: trial["state"], **message})
        registry.log_params(child, trial["parameters"])
        points = [Point("train/valid_loss", loss, int(step)) for step, loss in trial["valid_losses"].items()]
        if trial["valid_loss"] is not None:
            points.append(Point("valid_loss", trial["valid_loss"], 0))
        registry.log_points(child, points)
        registry.end_run(child, STATUS[trial["state"]])


def _drift(dataset: str, root: Path) -> list[dict[str, Any]]:
    """The drift of this dataset from the champion's, if it was measured."""
    facts = read_object(root / paths.DRIFT)
    return list(facts.get("measured", {}).get("drift", ())) if facts.get("dataset") == dataset else []


def _live_run(registry: Registry, weights: str) -> str | None:
    """The live run of the training of these weights, unless it belongs to an earlier verdict."""
    run_id = registry.find_run(WEIGHTS_TAG, weights)
    return run_id if run_id and RECEIPT_TAG not in registry.run_tags(run_id) else None
