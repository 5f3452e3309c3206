"""What every part of the registry shares: its address and the MLflow client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.tracking.connection import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RegistryConnection:
    """A registered model, the experiment of its runs, and the client for both."""

    uri: str
    model: str
    client: MlflowClient
    experiment_id: str

    @property
    def address(self) -> str:
        """The address without its password, for messages."""
        return without_password(self.uri)
