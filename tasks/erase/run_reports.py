"""The reports of runs in MLflow (report.html), which have texts of test rows and answers: those with an erased row are removed.

Like predictions, a report is removed if it shows one of the rows, or if the run's dataset has one: its model may quote it.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.erase.plan import Plan
from tasks.errors import RegistryError, StropError
from tasks.tracking.registry import Registry, open_registry, tracking_uri
from tasks.tracking.sqlite_paths import path_of
from tasks.tracking.tags import DATASET_TAG


def remove_reports(plan: Plan, datasets: set[str], command: str) -> int:
    """Removes the reports with texts of the rows; returns their number.

    Args:
        datasets: the versions of the dataset that have one of the rows.

    Raises:
        RegistryError: the registry cannot be reached, or does not let this login delete a file.
    """
    config = load_config()
    if not _has_registry(config):
        return 0
    try:
        registry = open_registry(config)
        runs = [run_id for run_id in registry.all_runs() if _is_affected(registry, run_id, plan, datasets)]
        for run_id in runs:
            registry.remove_file(run_id, paths.REPORT.name)
    except StropError as error:
        what = f"reports with texts of the rows may still be in the registry ({error.what})"
        fix = f"Fix that, then complete the erasure: {command}"
        raise RegistryError(what, where=error.where, fix=fix) from error
    return len(runs)


def _has_registry(config: PipelineConfig) -> bool:
    """Whether there is a registry: opening a file would create it."""
    path = path_of(tracking_uri(config))
    return path is None or path.exists()


def _is_affected(registry: Registry, run_id: str, plan: Plan, datasets: set[str]) -> bool:
    if not registry.has_file(run_id, paths.REPORT.name):
        return False
    if registry.run_tags(run_id).get(DATASET_TAG) in datasets:
        return True
    with TemporaryDirectory(prefix="strop-erase-") as folder:
        text = registry.download_file(run_id, paths.REPORT.name, Path(folder)).read_text(
            encoding="utf-8", errors="replace"
        )
    return any(row_id in text for row_id in plan.ids)
