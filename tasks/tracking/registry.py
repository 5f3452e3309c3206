"""Opening the registry that the settings name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.errors import RegistryError
from tasks.runtime.redaction.settings import with_values
from tasks.tracking.artifact_paths import location_for, resolve_below
from tasks.tracking.connection import hush, require_reachable, telling, without_password
from tasks.tracking.logged_models import Models
from tasks.tracking.login import split_login, use_login
from tasks.tracking.model_versions import Versions
from tasks.tracking.runs import Runs
from tasks.tracking.sqlite_paths import located_uri, path_of
from tasks.tracking.sqlite_setup import keep_locations_relative, prepare_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from tasks.config import PipelineConfig


@dataclass(frozen=True)
class Registry(Versions, Runs, Models):
    """One registered model and its runs."""


def tracking_uri(config: PipelineConfig) -> str:
    """Where the registry is: MLFLOW_TRACKING_URI, else the setting; without the login that a server's address may hold.

    A file's address is made absolute: MLflow keeps a connection by its address, and would go on with the first project's
    file in a process that goes from one project to another.
    """
    return split_login(_named_uri(config))[0]


def tracking_login(config: PipelineConfig) -> dict[str, str]:
    """The login that the server's address holds, as MLflow's environment variables; none where it holds none."""
    return split_login(_named_uri(config))[1]


def _named_uri(config: PipelineConfig) -> str:
    return located_uri(os.environ.get("MLFLOW_TRACKING_URI") or with_values(config.register_.tracking_uri, _not_set))


def _not_set(name: str) -> RegistryError:
    fix = f"Set it before the run: export {name}=…"
    return RegistryError(f"the environment variable {name} is not set", where="register.tracking_uri", fix=fix)


def open_registry(config: PipelineConfig) -> Registry:
    """The registry, ready for use.

    Raises:
        RegistryError: it cannot be reached (found out within seconds), or is no registry.
    """
    uri = use_login(_named_uri(config))
    require_reachable(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # "View run ... at:" shows the address
    hush()
    path = path_of(uri)
    with telling(uri):
        if path is not None:
            prepare_file(uri, path)
        import mlflow

        resolve_below(path)
        with _keeping_environment("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(uri)
        return Registry(uri, config.register_.model_name, client, _experiment(client, config.register_.model_name, uri))


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    """The experiment of that name; with a registry file, its artifacts are kept in mlflow/artifacts. A server knows where."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        path = path_of(uri)
        try:
            made = str(client.create_experiment(name, artifact_location=location_for(path) if path else None))
            if path:
                keep_locations_relative(path)
            return made
        except MlflowException as error:
            found = client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise  # else another process was first
    if found.lifecycle_stage != "active":
        fix = f"Restore it: mlflow experiments restore --experiment-id {found.experiment_id}"
        raise RegistryError(f"the experiment {name} was deleted", where=without_password(uri), fix=fix)
    return str(found.experiment_id)


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
