"""Runs: their tags, curves, parameters, files and training dataset."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from tasks.runtime.files import files_below
from tasks.tracking.connection import RegistryConnection, all_pages, mlflow_errors
from tasks.tracking.run_record import LONGEST_PARAM

METRICS_AT_ONCE = 1000
PARAMS_AT_ONCE = 100


@dataclass(frozen=True)
class Point:
    """A measured value of a curve."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class RunData:
    """The content of a run."""

    params: dict[str, str]
    metrics: dict[str, float]
    """The newest value of each metric."""
    tags: dict[str, str]
    datasets: frozenset[str]
    """Digests of the training datasets."""
    is_deleted: bool
    """It is in MLflow's trash, which `mlflow gc` empties."""


class Runs(RegistryConnection):
    """The runs of one experiment."""

    def find_run(self, tag: str, value: str) -> str | None:
        """The id of the newest run whose tag has that value."""
        with mlflow_errors(self.uri):
            query = f"tags.`{tag}` = '{value}'"
            runs = self.client.search_runs([self.experiment_id], query, max_results=1)
            return str(runs[0].info.run_id) if runs else None

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        with mlflow_errors(self.uri):
            run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
            return str(run.info.run_id)

    def run_tags(self, run_id: str) -> dict[str, str]:
        with mlflow_errors(self.uri):
            return dict(self.client.get_run(run_id).data.tags)

    def run_data(self, run_id: str) -> RunData:
        with mlflow_errors(self.uri):
            run = self.client.get_run(run_id)
            datasets = frozenset(dataset_input.dataset.digest for dataset_input in run.inputs.dataset_inputs)
            is_deleted = run.info.lifecycle_stage != "active"
            return RunData(dict(run.data.params), dict(run.data.metrics), dict(run.data.tags), datasets, is_deleted)

    def history(self, run_id: str, name: str) -> set[tuple[int, float]]:
        """Every (step, value) of a curve."""
        with mlflow_errors(self.uri):
            return {(int(m.step), float(m.value)) for m in self.client.get_metric_history(run_id, name)}

    def run_files(self, run_id: str, folder: Path) -> dict[str, Path]:
        """Relative path in a run's artifacts → the file, copied below `folder`."""
        with mlflow_errors(self.uri), catch_warnings(action="ignore"):
            return files_below(Path(self.client.download_artifacts(run_id, "", str(folder))))

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        with mlflow_errors(self.uri):
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)

    def end_run(self, run_id: str, status: str = "FINISHED") -> None:
        with mlflow_errors(self.uri):
            self.client.set_terminated(run_id, status)

    def log_points(self, run_id: str, points: list[Point]) -> None:
        """Adds the points that the run lacks: the same name and step is not written twice."""
        from mlflow.entities import Metric

        if not points:
            return
        with mlflow_errors(self.uri):
            existing = self._steps(run_id, {point.name for point in points})
            now = int(time.time() * 1000)
            new = [Metric(p.name, p.value, now, p.step) for p in points if (p.name, p.step) not in existing]
            for start in range(0, len(new), METRICS_AT_ONCE):
                self.client.log_batch(run_id, metrics=new[start : start + METRICS_AT_ONCE])

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Adds parameters; existing ones keep their values."""
        from mlflow.entities import Param

        with mlflow_errors(self.uri):
            existing = set(self.client.get_run(run_id).data.params)
            new = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in params.items() if key not in existing]
            for start in range(0, len(new), PARAMS_AT_ONCE):
                self.client.log_batch(run_id, params=new[start : start + PARAMS_AT_ONCE])

    def log_files(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Adds a file or the files of a folder to the run's artifacts."""
        with mlflow_errors(self.uri):
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), artifact_path)
            elif path.is_file():
                self.client.log_artifact(run_id, str(path), artifact_path)

    def all_runs(self) -> list[str]:
        """The ids of all runs, those in MLflow's trash too."""
        from mlflow.entities import ViewType

        with mlflow_errors(self.uri):
            search = partial(self.client.search_runs, [self.experiment_id], "", ViewType.ALL)
            return [str(run.info.run_id) for run in all_pages(search)]

    def download_file(self, run_id: str, name: str, folder: Path) -> Path:
        """A copy of an artifact of a run, below `folder`."""
        with mlflow_errors(self.uri), catch_warnings(action="ignore"):
            return Path(self.client.download_artifacts(run_id, name, str(folder)))

    def remove_file(self, run_id: str, name: str) -> None:
        """Removes an artifact of a run."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with mlflow_errors(self.uri):
            location = self.client.get_run(run_id).info.artifact_uri
            get_artifact_repository(location, tracking_uri=self.uri).delete_artifacts(name)

    def has_file(self, run_id: str, name: str) -> bool:
        """Whether a run has an artifact of that name."""
        with mlflow_errors(self.uri):
            return any(file.path == name for file in self.client.list_artifacts(run_id))

    def log_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Logs the training dataset of the run by DVC's hash: MLflow's own digest samples rows."""
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        with mlflow_errors(self.uri):
            existing = {i.dataset.digest for i in self.client.get_run(run_id).inputs.dataset_inputs}
            if digest not in existing:
                dataset = MetaDataset(HTTPDatasetSource(source), name=name, digest=digest)._to_mlflow_entity()
                self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _steps(self, run_id: str, names: set[str]) -> set[tuple[str, int]]:
        logged = names & set(self.client.get_run(run_id).data.metrics)
        return {(name, m.step) for name in logged for m in self.client.get_metric_history(run_id, name)}
