"""Settings of room `register`."""

import re
from typing import Annotated

from pydantic import StringConstraints, field_validator

from tasks.runtime.base_settings import Settings

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*")
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "file")


class RegisterSettings(Settings):
    model_name: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "strop-model"
    """Name of the registered model: letters, digits, - and _. Its versions are tagged `<model_name>@v<N>` in git."""
    tracking_uri: str = "sqlite:///mlflow/mlflow.db"
    """MLflow tracking and registry address: a file (`sqlite:///…`), a server (`https://…`) or a PostgreSQL database (`postgresql://…`,
    with `pip install 'strop[postgres]'`). The environment variable MLFLOW_TRACKING_URI overrides it. Write a password as the
    name of an environment variable, `https://me:${PASSWORD}@host`, or set MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD in the environment."""
    artifacts: str = ""
    """Only with a PostgreSQL database as the tracking address, which holds no files: where those of runs and models are stored. An
    address that all machines can read and write, such as `s3://bucket/strop` (with `pip install boto3`), or a folder that all of
    them have at the same absolute path. It counts when the model's experiment is created. Empty: mlflow/artifacts in the project,
    for one machine."""
    push: bool = True
    """Push the data to the default DVC remote. Without a remote the receipt records `local only`."""

    ledger_remote: str = ""
    """The git remote that shares the promotion ledger among machines, such as `origin`: each verdict and promotion is appended
    there first, so of two machines that promote at once one succeeds. Empty: the ledger of this clone alone decides."""

    @field_validator("model_name")
    @classmethod
    def is_a_name_for_mlflow_and_git(cls, name: str) -> str:
        if _NAME.fullmatch(name) is None:
            why = "; MLflow allows no dot in a model's name" if "." in name else ""
            raise ValueError(
                f"`{name}` should consist of letters, digits, - and _, and begin with a letter or a digit{why}"
            )
        return name

    @field_validator("ledger_remote")
    @classmethod
    def is_a_remote_of_git(cls, remote: str) -> str:
        if remote.startswith("-") or remote != remote.strip() or not remote.isprintable():
            raise ValueError(f"`{remote}` should be the name of a git remote, such as `origin`, or its address")
        if "${" in remote:
            raise ValueError(
                f"`{remote}` should have no variable: git would not replace it. Give the login to a credential helper of git "
                "(`git help credentials`), or use SSH, and name the git remote here"
            )
        return remote

    @field_validator("artifacts")
    @classmethod
    def is_an_address_or_an_absolute_folder(cls, place: str) -> str:
        if place and not re.match(r"/|[a-z][a-z0-9+.-]*://", place):
            raise ValueError(f"`{place}` should be an address, such as `s3://bucket/strop`, or an absolute path")
        return place

    @field_validator("tracking_uri")
    @classmethod
    def is_an_address_of_mlflow(cls, uri: str) -> str:
        scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
        if not uri or uri.isspace() or (scheme and "${" not in scheme and scheme not in _SCHEMES):
            raise ValueError(f"`{uri}` is not an MLflow address; those begin with {', '.join(_SCHEMES)}")
        return uri
