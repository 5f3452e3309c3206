"""Reads the registry's tables by SQL: what MLflow's client would return, in milliseconds.

`FileReader` does so for an SQLite file, `DatabaseReader` for a PostgreSQL database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import RegistryError
from tasks.runtime.files import files_below
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.artifact_paths import local_folder
from tasks.tracking.glance import DELETED
from tasks.tracking.model_ids import model_id_of, names_model
from tasks.tracking.model_versions import Version, anchors_of, no_such_version
from tasks.tracking.runs import RunData

if TYPE_CHECKING:
    from tasks.tracking.registry import Registry

COLUMNS = {
    "runs": {"run_uuid", "lifecycle_stage", "artifact_uri", "experiment_id", "start_time"},
    "params": {"key", "value", "run_uuid"},
    "tags": {"key", "value", "run_uuid"},
    "metrics": {"key", "value", "step", "is_nan", "run_uuid"},
    "latest_metrics": {"key", "value", "is_nan", "run_uuid"},
    "inputs": {"source_type", "source_id", "destination_type", "destination_id"},
    "datasets": {"dataset_uuid", "digest"},
    "experiments": {"experiment_id", "name"},
    "logged_models": {"model_id", "artifact_location", "lifecycle_stage"},
    "logged_model_metrics": {"model_id", "metric_name", "metric_value"},
    "model_versions": {"name", "version", "creation_time", "description", "current_stage", "source", "run_id", "storage_location"},
    "model_version_tags": {"name", "version", "key", "value"},
    "registered_model_aliases": {"name", "version", "alias"},
}  # fmt: skip
"""The tables and columns that are read. A registry without one of them has another version of MLflow's schema."""


@dataclass(frozen=True)
class SqlReader(ABC):
    """A registered model and its runs."""

    uri: str
    model: str
    by_mlflow: Callable[[], Registry]
    """Opens the registry with MLflow: for artifacts that are not on this disk."""

    @property
    def experiment_id(self) -> str:
        rows = self.rows("SELECT experiment_id FROM experiments WHERE name = ?", self.model)
        return str(rows[0][0]) if rows else ""

    def version(self, number: int) -> Version:
        if (version := self._versions.get(number)) is None:
            raise no_such_version(number, self.model, self._versions, without_credentials(self.uri))
        return version

    def versions(self) -> list[Version]:
        return list(self._versions.values())

    def anchors(self) -> dict[int, frozenset[str]]:
        return anchors_of({number: version.tags for number, version in self._versions.items()})

    def alias(self, name: str) -> int | None:
        query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
        return next((int(version) for (version,) in self.rows(query, self.model, name)), None)

    def model_files(self, source: str, folder: Path) -> dict[str, Path]:
        root = self._local(self._location(source))
        return files_below(root) if root else self.by_mlflow().model_files(source, folder)

    def weight_files(self, source: str, folder: Path) -> list[Path]:
        return sorted(path for name, path in self.model_files(source, folder).items() if name.endswith(".safetensors"))

    def stored_bytes(self, source: str) -> dict[str, int]:
        root = self._local(location := self._location(source))
        if root is None and local_folder(location, self.uri) is None:
            return self.by_mlflow().stored_bytes(source)
        return {name: path.stat().st_size for name, path in files_below(root).items()} if root else {}

    def model_metrics(self, source: str | None) -> list[tuple[str, float]]:
        if not names_model(source):
            return []
        self._location(source)  # a deleted model has no metrics for MLflow
        query = "SELECT metric_name, metric_value FROM logged_model_metrics WHERE model_id = ?"
        return [(str(name), _number(value)) for name, value in self.rows(query, model_id_of(source))]

    def foreign_location(self, version: Version) -> str:
        query = "SELECT storage_location, source FROM model_versions WHERE name = ? AND version = ?"
        ((stored, source),) = self.rows(query, self.model, version.version)
        location = str(stored or source)
        return "" if location in (self._location(version.source), version.source) else location

    def find_run(self, tag: str, value: str) -> str | None:
        query = (
            "SELECT runs.run_uuid FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            "JOIN experiments ON experiments.experiment_id = runs.experiment_id "
            "WHERE tags.key = ? AND tags.value = ? AND experiments.name = ? AND runs.lifecycle_stage = 'active' "
            "ORDER BY runs.start_time DESC, runs.run_uuid LIMIT 1"
        )
        return next((str(run_id) for (run_id,) in self.rows(query, tag, value, self.model)), None)

    def run_data(self, run_id: str) -> RunData:
        stage, _ = self._run(run_id)
        params = {str(key): str(value) for key, value in self._of_run("params", run_id)}
        tags = {str(key): str(value) for key, value in self._of_run("tags", run_id)}
        numbers = self.rows("SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", run_id)
        metrics = {str(key): _number(value, is_nan) for key, value, is_nan in numbers}
        query = (
            "SELECT digest FROM datasets JOIN inputs ON inputs.source_id = datasets.dataset_uuid "
            "WHERE source_type = 'DATASET' AND destination_type = 'RUN' AND destination_id = ?"
        )
        datasets = frozenset(str(digest) for (digest,) in self.rows(query, run_id))
        return RunData(params, metrics, tags, datasets, is_deleted=stage != "active")

    def history(self, run_id: str, name: str) -> set[tuple[int, float]]:
        query = "SELECT step, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ?"
        return {(int(step), _number(value, is_nan)) for step, value, is_nan in self.rows(query, run_id, name)}

    def run_files(self, run_id: str, folder: Path) -> dict[str, Path]:
        """Relative path in a run's artifacts → the file itself, if it is on this disk."""
        _, location = self._run(run_id)
        root = self._local(location)
        return files_below(root) if root else self.by_mlflow().run_files(run_id, folder)

    @cached_property
    def _versions(self) -> dict[int, Version]:
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in self.rows(
            "SELECT version, key, value FROM model_version_tags WHERE name = ?", self.model
        ):
            tags.setdefault(int(number), {})[str(key)] = str(value)
        aliases: dict[int, list[str]] = {}
        query = "SELECT version, alias FROM registered_model_aliases WHERE name = ?"
        # sorted here: a database may order letters by its language
        for alias, number in sorted((str(alias), int(number)) for number, alias in self.rows(query, self.model)):
            aliases.setdefault(number, []).append(alias)
        query = (
            "SELECT version, run_id, source, creation_time, description FROM model_versions "
            "WHERE name = ? AND current_stage != ? ORDER BY version"
        )
        rows = self.rows(query, self.model, DELETED)
        return {
            int(number): Version(
                int(number), run_id, source, tags.get(int(number), {}), aliases.get(int(number), []), created / 1000, text or ""
            )
            for number, run_id, source, created, text in rows
        }  # fmt: skip

    def _run(self, run_id: str) -> tuple[str, str]:
        """The state of a run, and the location of its artifacts."""
        rows = self.rows("SELECT lifecycle_stage, artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        if not rows:
            fix = "Make it again: strop registry rebuild"
            raise RegistryError(f"has no run {run_id}", where=without_credentials(self.uri), fix=fix)
        return str(rows[0][0]), str(rows[0][1])

    def _location(self, source: str | None) -> str:
        """The location of a logged model's files."""
        query = "SELECT artifact_location FROM logged_models WHERE model_id = ? AND lifecycle_stage != 'deleted'"
        rows = self.rows(query, model_id_of(source))
        if not rows:
            fix = "Make it again: strop registry rebuild"
            raise RegistryError(f"has no logged model {source}", where=without_credentials(self.uri), fix=fix)
        return str(rows[0][0])

    def _local(self, location: str) -> Path | None:
        root = local_folder(location, self.uri)
        return root if root and root.is_dir() else None

    def _of_run(self, table: str, run_id: str) -> list[tuple[Any, ...]]:
        return self.rows(f"SELECT key, value FROM {table} WHERE run_uuid = ?", run_id)

    @abstractmethod
    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query; `?` stands for each value."""


def _number(value: Any, is_nan: Any = False) -> float:
    return float("nan") if is_nan or value is None else float(value)
