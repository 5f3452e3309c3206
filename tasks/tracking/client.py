"""What every part of the registry knows: where it is, and the client that speaks to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.tracking.connection import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Connected:
    """One registered model and the experiment of its runs, behind a client."""

    uri: str
    model: str
    client: MlflowClient
    experiment_id: str

    @property
    def address(self) -> str:
        """Its address as it may be shown."""
        return without_password(self.uri)
