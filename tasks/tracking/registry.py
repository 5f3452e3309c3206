"""Opening the registry that the settings name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.errors import RegistryError
from tasks.runtime.redaction.settings import with_values
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.artifact_paths import location_for, resolve_below
from tasks.tracking.artifacts_of_database import new_location, require_location
from tasks.tracking.connection import environment_restored, mlflow_errors, require_reachable, silence_mlflow
from tasks.tracking.login import split_login, use_login
from tasks.tracking.model_versions import Versions
from tasks.tracking.postgres import is_postgres, with_driver
from tasks.tracking.postgres_setup import prepare_database
from tasks.tracking.runs import Runs
from tasks.tracking.sqlite_paths import absolute_uri, path_of
from tasks.tracking.sqlite_setup import keep_locations_relative, prepare_file
from tasks.tracking.stored_files import StoredFiles

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from tasks.config import PipelineConfig


@dataclass(frozen=True)
class Registry(Versions, Runs, StoredFiles):
    """One registered model and its runs."""


def tracking_uri(config: PipelineConfig) -> str:
    """The registry's address: MLFLOW_TRACKING_URI, else the setting; without a login.

    A file's address is made absolute: MLflow caches connections by address, and a process that works on a second project
    would otherwise keep the first one's file.
    """
    return split_login(_configured_uri(config))[0]


def tracking_login(config: PipelineConfig) -> dict[str, str]:
    """The login in the server's address, as MLflow's environment variables; empty without one."""
    return split_login(_configured_uri(config))[1]


def _configured_uri(config: PipelineConfig) -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI") or with_values(config.register_.tracking_uri, _not_set)
    return with_driver(absolute_uri(uri))


def _not_set(name: str) -> RegistryError:
    fix = f"Set it before the run: export {name}=…"
    return RegistryError(f"the environment variable {name} is not set", where="register.tracking_uri", fix=fix)


def open_registry(config: PipelineConfig) -> Registry:
    """The registry, ready for use.

    Raises:
        RegistryError: it cannot be reached (known within seconds), or is no registry.
    """
    uri = use_login(_configured_uri(config))
    require_reachable(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")  # prices of hosted models, from the network
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # "View run ... at:" shows the address
    silence_mlflow()
    path = path_of(uri)
    with mlflow_errors(uri):
        if path is not None:
            prepare_file(uri, path)
        elif is_postgres(uri):
            prepare_database(uri)
        import mlflow

        resolve_below(path)
        with environment_restored("MLFLOW_TRACKING_URI"):  # or the next project would read it as the user's setting
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(uri)
        return Registry(uri, config.register_.model_name, client, _experiment(client, config, uri))


def _experiment(client: MlflowClient, config: PipelineConfig, uri: str) -> str:
    """The id of the experiment; created if it is missing. For a registry file its artifacts are in mlflow/artifacts."""
    from mlflow.exceptions import MlflowException

    name = config.register_.model_name
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = path_of(uri)
        location = location_for(path) if path else new_location(config) if is_postgres(uri) else None
        try:
            experiment_id = str(client.create_experiment(name, artifact_location=location))
            if path:
                keep_locations_relative(path)
            return experiment_id
        except MlflowException as error:
            experiment = client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                raise  # else another process created it first
    if experiment.lifecycle_stage != "active":
        raise deleted_experiment(name, str(experiment.experiment_id), without_credentials(uri))
    if is_postgres(uri):
        require_location(config, str(experiment.artifact_location), uri)
    return str(experiment.experiment_id)


def deleted_experiment(name: str, experiment_id: str, where: str) -> RegistryError:
    fix = f"Restore it: mlflow experiments restore --experiment-id {experiment_id}"
    return RegistryError(f"the experiment {name} was deleted", where=where, fix=fix)
