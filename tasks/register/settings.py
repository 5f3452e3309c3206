"""Settings of room `register`."""

from typing import Annotated

from pydantic import StringConstraints

from tasks.settings import Settings


class RegisterSettings(Settings):
    model_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = (
        "strop-model"
    )
    """Name of the registered model; its versions are tagged `<model_name>@v<N>` in git."""
    tracking_uri: str = "sqlite:///mlflow/mlflow.db"
    """MLflow tracking and registry address. MLFLOW_TRACKING_URI in the environment goes before it. A
    password in it is the name of an environment variable: `https://me:${PASSWORD}@host`; or MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD are in the environment."""
    push: bool = True
    """Push the data to the DVC remote, where one is set. Without one the receipt says `local only`."""
