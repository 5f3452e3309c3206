"""Reports of runs in MLflow have texts of rows: an erasure removes those with the row, and waits for a registry that is away."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.dataworld import SOURCES
from support.erasing import SECRET, files_with, ids_of
from support.project import params, write_params

from tasks import paths
from tasks.config import load_config
from tasks.erase.stage import erase, resume
from tasks.errors import RegistryError
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import DATASET_TAG
from tasks.vcs import git
from tasks.vcs.dvc_outputs import dataset_version, output_hashes

pytestmark = pytest.mark.usefixtures("warm")


def run_with_report(registry: Registry, dataset: str, text: str) -> str:
    run_id = registry.create_run("candidate", {DATASET_TAG: dataset})
    paths.REPORTS.mkdir(parents=True, exist_ok=True)
    paths.REPORT.write_text(text, encoding="utf-8")
    registry.log_files(run_id, paths.REPORT)
    return run_id


def test_reports_with_the_row_or_of_its_dataset_are_removed_and_others_stay(world: Path) -> None:
    registry = open_registry(load_config())
    ids = ids_of(SECRET)
    dataset = dataset_version()
    assert dataset is not None
    commits = git.run("rev-list", "--all", "--", str(paths.DVC_LOCK)).split()
    (older,) = {output_hashes(commit)[str(paths.CURATED)] for commit in commits} - {dataset}
    names_it = run_with_report(registry, "another", f"a page with the row {ids[0]}: {SECRET}")
    of_its_dataset = [run_with_report(registry, name, f"an answer that quotes {SECRET}") for name in (dataset, older)]
    other = run_with_report(registry, "another", "a page without it")
    registry.client.delete_run(names_it)
    paths.REPORT.write_text(SECRET, encoding="utf-8")
    assert len(files_with(SECRET, Path("mlflow"))) == 3
    erased = erase(ids, why="asked to")
    assert erased is not None
    assert erased.reports == 3
    assert files_with(SECRET, world, world.parent / "store") == []
    assert [registry.has_file(run, paths.REPORT.name) for run in (names_it, *of_its_dataset, other)] == [False] * 3 + [
        True
    ]


def test_an_erasure_without_its_registry_is_completed_later(world: Path) -> None:
    ids = ids_of(SECRET)
    closed = {"model_name": "tiny", "tracking_uri": "http://127.0.0.1:9"}
    write_params(world, params("base", SOURCES, register=closed))
    with pytest.raises(RegistryError, match="reports with texts of the rows may still be in the registry") as caught:
        erase(ids, why="asked to")
    assert "strop rows forget --erase" in str(caught.value)
    write_params(world, params("base", SOURCES))
    assert not Path("mlflow/mlflow.db").exists(), "a registry that was never made is not created to search it"
    assert resume() is not None
    assert files_with(SECRET, world, world.parent / "store") == []
