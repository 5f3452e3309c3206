"""Runs: their tags, curves, parameters, files, and the dataset that they learned from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.tracking.client import Connected
from tasks.tracking.connection import quiet, telling
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
class Facts:
    """What a run holds."""

    params: dict[str, str]
    metrics: dict[str, float]
    """The newest value of each."""
    tags: dict[str, str]
    datasets: frozenset[str]
    """Digests of those that it learned from."""
    is_deleted: bool
    """It was moved to MLflow's bin, which `mlflow gc` empties."""


class Runs(Connected):
    """The runs of one experiment."""

    def find_run(self, tag: str, value: str) -> str | None:
        """The id of the newest run with a tag of that value."""
        with telling(self.uri):
            query = f"tags.`{tag}` = '{value}'"
            runs = self.client.search_runs([self.experiment_id], query, max_results=1)
            return str(runs[0].info.run_id) if runs else None

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        with telling(self.uri):
            run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
            return str(run.info.run_id)

    def run_tags(self, run_id: str) -> dict[str, str]:
        with telling(self.uri):
            return dict(self.client.get_run(run_id).data.tags)

    def run_facts(self, run_id: str) -> Facts:
        with telling(self.uri):
            run = self.client.get_run(run_id)
            datasets = frozenset(each.dataset.digest for each in run.inputs.dataset_inputs)
            is_deleted = run.info.lifecycle_stage != "active"
            return Facts(dict(run.data.params), dict(run.data.metrics), dict(run.data.tags), datasets, is_deleted)

    def history(self, run_id: str, name: str) -> set[tuple[int, float]]:
        """Every (step, value) of a curve."""
        with telling(self.uri):
            return {(int(m.step), float(m.value)) for m in self.client.get_metric_history(run_id, name)}

    def run_files(self, run_id: str, folder: Path) -> dict[str, Path]:
        """The files of a run by their place in it, copied below `folder`."""
        with telling(self.uri), quiet():
            place = Path(self.client.download_artifacts(run_id, "", str(folder)))
            return {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*")) if path.is_file()}

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        with telling(self.uri):
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)

    def end_run(self, run_id: str, status: str = "FINISHED") -> None:
        with telling(self.uri):
            self.client.set_terminated(run_id, status)

    def log_points(self, run_id: str, points: list[Point]) -> None:
        """Adds the points that the run does not have yet: the same name and step is not written twice."""
        from mlflow.entities import Metric

        if not points:
            return
        with telling(self.uri):
            had = self._steps(run_id, {point.name for point in points})
            now = int(time.time() * 1000)
            new = [Metric(p.name, p.value, now, p.step) for p in points if (p.name, p.step) not in had]
            for start in range(0, len(new), METRICS_AT_ONCE):
                self.client.log_batch(run_id, metrics=new[start : start + METRICS_AT_ONCE])

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Adds parameters; those that the run has already stay as they are."""
        from mlflow.entities import Param

        with telling(self.uri):
            had = set(self.client.get_run(run_id).data.params)
            new = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in params.items() if key not in had]
            for start in range(0, len(new), PARAMS_AT_ONCE):
                self.client.log_batch(run_id, params=new[start : start + PARAMS_AT_ONCE])

    def log_files(self, run_id: str, place: Path, artifact_path: str | None = None) -> None:
        """Adds a file or the files of a folder to the run's artifacts."""
        with telling(self.uri):
            if place.is_dir():
                self.client.log_artifacts(run_id, str(place), artifact_path)
            elif place.is_file():
                self.client.log_artifact(run_id, str(place), artifact_path)

    def has_file(self, run_id: str, name: str) -> bool:
        """Whether a run has an artifact of that name."""
        with telling(self.uri):
            return any(file.path == name for file in self.client.list_artifacts(run_id))

    def log_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Notes which dataset the run learned from, by DVC's hash: MLflow's own digest samples rows."""
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        with telling(self.uri):
            had = {i.dataset.digest for i in self.client.get_run(run_id).inputs.dataset_inputs}
            if digest not in had:
                dataset = MetaDataset(HTTPDatasetSource(source), name=name, digest=digest)._to_mlflow_entity()
                self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _steps(self, run_id: str, names: set[str]) -> set[tuple[str, int]]:
        known = names & set(self.client.get_run(run_id).data.metrics)
        return {(name, m.step) for name in known for m in self.client.get_metric_history(run_id, name)}
