"""Where the files of runs and models are, for a registry that is a database: MLflow would put them below the working directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import RegistryError
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.artifact_paths import ARTIFACTS, local_folder
from tasks.tracking.connection import mlflow_errors
from tasks.tracking.sqlite_paths import absolute_path

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

LONGEST = 150
"""Characters of a location: the column for that of a run, which has 43 more, holds 200. SQLite enforces no such limit."""
SETTING = "register.artifacts"


def new_location(config: PipelineConfig) -> str:
    """The location of a new experiment; a folder is created.

    Raises:
        RegistryError: it is too long for MLflow's tables.
    """
    location = _configured(config) or absolute_path(ARTIFACTS).as_uri()
    if len(location) > LONGEST:
        what = f"the address has {len(location)} characters, and MLflow's tables have room for {LONGEST}: {location}"
        raise RegistryError(what, where=SETTING, fix="Set it to a shorter one, such as s3://bucket/strop")
    if (folder := local_folder(location, "")) is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return location


def require_location(config: PipelineConfig, location: str, uri: str) -> None:
    """Checks the location of an existing experiment.

    Raises:
        RegistryError: it is another one than the setting's, or a folder that this machine does not have.
    """
    configured, where = _configured(config), without_credentials(uri)
    if configured and configured != location:
        what = f"the files of {config.register_.model_name} are at {location}, and {SETTING} is {configured}"
        fix = f"Set {SETTING}: {location}; or name another database, and fill it: strop registry rebuild"
        raise RegistryError(what, where=where, fix=fix)
    folder = local_folder(location, "")
    if folder is not None and not folder.is_dir():
        what = f"the files of {config.register_.model_name} are in {folder}, which this machine does not have"
        fix = (
            f"Mount it there; or name an empty database with {SETTING} at a place that all machines have, and fill it: "
            "strop registry rebuild"
        )
        raise RegistryError(what, where=where, fix=fix)


def require_store(config: PipelineConfig, location: str | None, uri: str) -> None:
    """Lists the files of an experiment, unless they are in a folder. MLflow is imported for it.

    Args:
        location: None for an experiment that does not exist yet.

    Raises:
        RegistryError: a package or the login is missing, or the store refuses.
    """
    location = location or _configured(config)
    if not location or local_folder(location, "") is not None:
        return
    with mlflow_errors(uri):
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(location).list_artifacts()


def _configured(config: PipelineConfig) -> str:
    """The setting, a folder as an address: MLflow decodes a plain path."""
    setting = config.register_.artifacts.rstrip("/")
    return Path(setting).as_uri() if setting.startswith("/") else setting
