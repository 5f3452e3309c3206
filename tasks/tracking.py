"""The door to MLflow: runs, versions and aliases, in a file under mlflow/ or on the server that a setting names.

    registry = open_registry(config)
    number = registry.create_version(model_uri, run_id, {"strop.receipt": digest})
    registry.set_alias("challenger", number)

MLflow has no compare-and-swap and no history: which model serves is said by the ledger, and mirrored here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks import paths, registry_file
from tasks.errors import RegistryError
from tasks.files import file_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from tasks.config import PipelineConfig

ARTIFACTS = paths.REGISTRY_FOLDER / "artifacts"
ANSWER_SECONDS = 10.0
METRICS_AT_ONCE = 1000
PARAMS_AT_ONCE = 100
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Version:
    version: int
    run_id: str
    source: str
    tags: dict[str, str]
    aliases: list[str]
    created: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Point:
    """A measured value of a curve."""

    name: str
    value: float
    step: int


def tracking_uri(config: PipelineConfig) -> str:
    """Where the registry is: MLFLOW_TRACKING_URI, else the setting.

    A file's address is made absolute: MLflow keeps a connection by its address, and would go on with the first project's
    file in a process that goes from one project to another.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or config.register_.tracking_uri
    path = registry_file.path_of(uri)
    return uri.replace(str(path), str(path.resolve()), 1) if path else uri


def open_registry(config: PipelineConfig) -> Registry:
    """The registry, ready for use.

    Raises:
        RegistryError: it cannot be reached (found out within seconds), or is no registry.
    """
    uri = tracking_uri(config)
    _require_reachable(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with _telling(uri):
        if (path := registry_file.path_of(uri)) is not None:
            _prepare_file(uri, path)
        import mlflow

        _hush()
        with _keeping_environment("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(uri)
        return Registry(uri, config.register_.model_name, client, _experiment(client, config.register_.model_name, uri))


def judged_traces(uri: str, experiment: str, with_content: bool) -> Iterator[dict[str, Any]]:
    """The traces of an experiment that people judged, oldest first; a judge that is a model does not count.

    Each is {"trace_id", "changed" (ms since 1970), "values" (feedback or expectation → its last value), "request",
    "response"}; the last two are JSON text, and null without `with_content`.

    Raises:
        RegistryError: the server cannot be reached, or has no such experiment.
    """
    _require_reachable(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with _telling(uri):
        if (path := registry_file.path_of(uri)) is not None:
            uri = uri.replace(str(path), str(path.resolve()), 1)  # as in `tracking_uri`
            _prepare_file(uri, path)
        import mlflow

        _hush()
        client = mlflow.MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise RegistryError(
                f"has no experiment {experiment}", where=_without_password(uri), fix="See: mlflow experiments"
            )
        where = {"locations": [found.experiment_id], "order_by": ["timestamp_ms ASC"], "include_spans": with_content}
        token = None
        while True:
            page = client.search_traces(**where, page_token=token)
            for trace in page:
                said = [a for a in trace.info.assessments if "JUDGE" not in str(a.source.source_type)]
                said.sort(key=lambda a: a.last_update_time_ms or 0)
                if said:
                    data = {"request": trace.data.request, "response": trace.data.response}
                    changed = said[-1].last_update_time_ms or 0
                    values = {a.name: a.value for a in said}
                    yield {"trace_id": trace.info.trace_id, "changed": changed, "values": values, **data}
            if not (token := page.token):
                return


@dataclass(frozen=True)
class Registry:
    """One registered model and its runs."""

    uri: str
    model: str
    client: MlflowClient
    experiment_id: str

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        with _telling(self.uri):
            found: list[Any] = []
            token = None
            while True:
                page = self.client.search_model_versions(f"name='{self.model}'", page_token=token)
                found += page
                if not (token := page.token):
                    break
            aliases = self._aliases()
        return sorted((_version(v, aliases) for v in found), key=lambda v: v.version)

    def version(self, number: int) -> Version:
        """Raises RegistryError where there is no such version."""
        for version in (known := self.versions()):
            if version.version == number:
                return version
        told = ", ".join(str(v.version) for v in known) or "none"
        raise RegistryError(
            f"has no version {number} of {self.model}; it has {told}", where=self.uri, fix="See: strop history"
        )

    def find_version(self, tag: str, value: str) -> Version | None:
        """The oldest version with a tag of that value."""
        return next((v for v in self.versions() if v.tags.get(tag) == value), None)

    def create_version(self, source: str, run_id: str, tags: Mapping[str, str]) -> int:
        """A new version of a logged model, with its tags from the first moment. Returns its number."""
        from mlflow.exceptions import MlflowException

        with _telling(self.uri):
            try:
                self.client.create_registered_model(self.model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self.client.create_model_version(self.model, source, run_id, tags=dict(tags))
        return int(made.version)  # an int on sqlite, a string over HTTP

    def set_version_tags(self, number: int, tags: Mapping[str, str]) -> None:
        with _telling(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(self.model, str(number), key, value)

    def alias(self, name: str) -> int | None:
        """The version that an alias points at."""
        with _telling(self.uri):
            return self._aliases().get(name)

    def set_alias(self, name: str, number: int) -> None:
        with _telling(self.uri):
            self.client.set_registered_model_alias(self.model, name, str(number))

    def remove_alias(self, name: str) -> None:
        with _telling(self.uri):
            if name in self._aliases():
                self.client.delete_registered_model_alias(self.model, name)

    def find_run(self, tag: str, value: str) -> str | None:
        """The id of the newest run with a tag of that value."""
        with _telling(self.uri):
            query = f"tags.`{tag}` = '{value}'"
            runs = self.client.search_runs([self.experiment_id], query, max_results=1)
            return str(runs[0].info.run_id) if runs else None

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        with _telling(self.uri):
            run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
            return str(run.info.run_id)

    def run_tags(self, run_id: str) -> dict[str, str]:
        with _telling(self.uri):
            return dict(self.client.get_run(run_id).data.tags)

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        with _telling(self.uri):
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)

    def end_run(self, run_id: str, status: str = "FINISHED") -> None:
        with _telling(self.uri):
            self.client.set_terminated(run_id, status)

    def log_points(self, run_id: str, points: list[Point]) -> None:
        """Adds the points that the run does not have yet: the same name and step is not written twice."""
        from mlflow.entities import Metric

        if not points:
            return
        with _telling(self.uri):
            had = self._steps(run_id, {point.name for point in points})
            now = int(time.time() * 1000)
            new = [Metric(p.name, p.value, now, p.step) for p in points if (p.name, p.step) not in had]
            for start in range(0, len(new), METRICS_AT_ONCE):
                self.client.log_batch(run_id, metrics=new[start : start + METRICS_AT_ONCE])

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Adds parameters; those that the run has already stay as they are."""
        from mlflow.entities import Param

        with _telling(self.uri):
            had = set(self.client.get_run(run_id).data.params)
            new = [Param(key, str(value)[:6000]) for key, value in params.items() if key not in had]
            for start in range(0, len(new), PARAMS_AT_ONCE):
                self.client.log_batch(run_id, params=new[start : start + PARAMS_AT_ONCE])

    def log_files(self, run_id: str, place: Path, artifact_path: str | None = None) -> None:
        """Adds a file or the files of a folder to the run's artifacts."""
        with _telling(self.uri):
            if place.is_dir():
                self.client.log_artifacts(run_id, str(place), artifact_path)
            elif place.is_file():
                self.client.log_artifact(run_id, str(place), artifact_path)

    def log_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Notes which dataset the run learned from, by DVC's hash: MLflow's own digest samples rows."""
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        with _telling(self.uri):
            had = {i.dataset.digest for i in self.client.get_run(run_id).inputs.dataset_inputs}
            if digest not in had:
                dataset = MetaDataset(HTTPDatasetSource(source), name=name, digest=digest)._to_mlflow_entity()
                self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def find_model(self, weights: str) -> str | None:
        """The address of a model that was logged whole with these weights, so that none is stored twice."""
        with _telling(self.uri):
            query = f"tags.`strop.weights` = '{weights}'"
            for model in self.client.search_logged_models([self.experiment_id], filter_string=query):
                if str(model.status) == "READY":
                    return str(model.model_uri)
            return None

    def log_model(self, run_id: str, model: Any, tokenizer: Any, weights: str, base: Path | None) -> str:
        """Logs a model (with `base`, an adapter on it) and returns its address."""
        import mlflow

        os.environ["MLFLOW_HUGGINGFACE_MODEL_MAX_SHARD_SIZE"] = "10TB"  # one file, as it came: the bytes are compared
        # an adapter that is logged without its base's path reloads with wrong weights, and only whispers
        to_base = {"base_model_path": str(base.resolve())} if base is not None else {}
        with _telling(self.uri), _quiet():
            self._remove_half_logged(weights)
            with mlflow.start_run(run_id=run_id, log_system_metrics=False):
                logged = mlflow.transformers.log_model(
                    {"model": model, "tokenizer": tokenizer},
                    name=self.model,
                    task="llm/v1/chat",
                    tags={"strop.weights": weights},
                    pip_requirements=_requirements(is_adapter=base is not None),  # guessing them loads the model again
                    **to_base,
                )
        return str(logged.model_uri)

    def load_model(self, model_uri: str, base: Path | None) -> tuple[Any, Any]:
        """The model and tokenizer behind an address (`models:/name@champion`, `models:/name/3`, `models:/m-…`)."""
        import mlflow

        to_base = {"base_model_path": str(base.resolve())} if base is not None else {}
        with _telling(self.uri), _quiet():
            parts = mlflow.transformers.load_model(model_uri, return_type="components", **to_base)
        return parts["model"], parts["tokenizer"]

    def forget_model(self, model_uri: str) -> None:
        """Removes a logged model that must not be used."""
        with _telling(self.uri):
            self.client.delete_logged_model(model_uri.rsplit("/", 1)[1])

    def weight_files(self, source: str, folder: Path) -> list[Path]:
        """The *.safetensors of a logged model: where they lie, or where they were downloaded to below `folder`."""
        from mlflow.artifacts import download_artifacts

        with _telling(self.uri), _quiet():
            place = self._local_artifacts(source)
            if place is None:
                place = Path(download_artifacts(source, dst_path=str(folder), tracking_uri=self.uri))
            return sorted(place.rglob("*.safetensors"))

    def share_weights(self, source: str, kept: Path) -> None:
        """Where registry and project share a disk, equal weight files become one file: full weights cost their size once."""
        place = self._local_artifacts(source)
        for file in place.rglob("*.safetensors") if place else []:
            twin = kept / file.name
            if twin.is_file() and not twin.samefile(file) and file_digest(twin) == file_digest(file):
                beside = file.with_name(f".{file.name}.link")
                with contextlib.suppress(OSError):  # another disk: it then costs its size twice
                    beside.unlink(missing_ok=True)
                    os.link(twin, beside)
                    beside.replace(file)

    def _local_artifacts(self, source: str) -> Path | None:
        place = self.client.get_logged_model(source.rsplit("/", 1)[1]).artifact_location
        return Path(place) if "://" not in place and Path(place).is_dir() else None

    def _aliases(self) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_registered_model(self.model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {name: int(number) for name, number in found.items()}

    def _steps(self, run_id: str, names: set[str]) -> set[tuple[str, int]]:
        known = names & set(self.client.get_run(run_id).data.metrics)
        return {(name, m.step) for name in known for m in self.client.get_metric_history(run_id, name)}

    def _remove_half_logged(self, weights: str) -> None:
        """What a process that was killed while logging left behind."""
        query = f"tags.`strop.weights` = '{weights}'"
        for model in self.client.search_logged_models([self.experiment_id], filter_string=query):
            if str(model.status) != "READY":
                if "://" not in model.artifact_location:
                    shutil.rmtree(Path(model.artifact_location).parent, ignore_errors=True)
                self.client.delete_logged_model(model.model_id)


def _version(found: Any, aliases: dict[str, int]) -> Version:
    number = int(found.version)
    names = sorted(name for name, at in aliases.items() if at == number)
    return Version(number, found.run_id, found.source, dict(found.tags), names, found.creation_timestamp / 1000)


def _requirements(is_adapter: bool) -> list[str]:
    from importlib.metadata import version

    names = ["torch", "transformers", "accelerate", *(["peft"] if is_adapter else [])]
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    """The experiment of that name; with a registry file, its artifacts lie beside the file, in mlflow/artifacts."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        place = str(ARTIFACTS.resolve()) if registry_file.path_of(uri) else None
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            found = client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise  # else another process was first
    if found.lifecycle_stage != "active":
        fix = f"Restore it: mlflow experiments restore --experiment-id {found.experiment_id}"
        raise RegistryError(f"the experiment {name} was deleted", where=uri, fix=fix)
    return str(found.experiment_id)


def _prepare_file(uri: str, path: Path) -> None:
    """Makes or upgrades the file, one process at a time: MLflow's own attempt breaks a file that two open at once."""
    from filelock import FileLock

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.LOCKS / "registry.lock", timeout=300):
        at = registry_file.schema_version(path)
        if at is None:
            import mlflow.db

            _hush()
            mlflow.db.upgrade.callback(uri)
        elif at != _newest_schema():
            import mlflow.db

            _hush()
            shutil.copyfile(path, path.with_name(f"{path.name}.before-{at}"))
            mlflow.db.upgrade.callback(uri)
        elif registry_file.follow_move(path, ARTIFACTS):
            print(f"registry: the project folder was moved; corrected the paths in {path}", flush=True)


def _newest_schema() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def _require_reachable(uri: str) -> None:
    """Knocks once: MLflow itself would try for minutes before it gives up."""
    parts = urlsplit(uri)
    if not parts.hostname:
        return
    port = parts.port or PORTS.get(parts.scheme.split("+")[0])
    if port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "Start it, or mend register.tracking_uri in params.yaml (or MLFLOW_TRACKING_URI)"
        raise RegistryError(
            f"the registry cannot be reached ({reason})", where=_without_password(uri), fix=fix
        ) from error


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return uri.replace(f":{parts.password}@", ":…@")


@contextlib.contextmanager
def _telling(uri: str) -> Iterator[None]:
    """Tells what MLflow, its database or its server refuse in one line."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, requests.RequestException) as error:
        told = " ".join(str(error).split())[:300]
        fix = "See that it is up and of this version of MLflow, then run again"
        raise RegistryError(f"the registry refused ({told})", where=_without_password(uri), fix=fix) from error


@contextlib.contextmanager
def _keeping_environment(name: str) -> Iterator[None]:
    """MLflow writes its address into the environment, where we would take it for the user's wish in the next project."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _hush() -> None:
    """MLflow tells of each migration, each path and each guess; we tell of errors."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
