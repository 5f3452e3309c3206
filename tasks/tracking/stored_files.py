"""The files of logged models as storage: how many bytes they have, and their removal.

MLflow only marks a deleted model: its files stay until an administrator runs `mlflow gc`. So the files are removed themselves, and
the logged model stays as an empty one: the version that names it is still listed and can still be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.tracking.artifact_paths import local_folder
from tasks.tracking.connection import mlflow_errors
from tasks.tracking.logged_models import Models
from tasks.tracking.tags import WEIGHTS_MISSING_TAG, WEIGHTS_TAG


class StoredFiles(Models):
    """The files of the logged models of one experiment."""

    def stored_bytes(self, source: str) -> dict[str, int]:
        """Relative path → size, of every file of a logged model."""
        with mlflow_errors(self.uri):
            return dict(self._list(source.rsplit("/", 1)[1], None))

    def local_folder(self, source: str) -> Path | None:
        """The folder of a logged model's files, if they are on this disk."""
        with mlflow_errors(self.uri):
            model = self.client.get_logged_model(source.rsplit("/", 1)[1])
            return local_folder(model.artifact_location, self.uri)

    def remove_files(self, source: str, is_used: Callable[[], bool]) -> bool:
        """Removes all files of a logged model, and returns whether it did. No later registration uses it again, also if this is
        interrupted.

        Another machine may be registering a version with this model. It creates the version and then looks at the mark
        (`is_complete`); here the mark comes first. So at least one of the two sees the other.

        Args:
            is_used: whether a version needs the files; called after the model is marked. If so, they stay.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        model_id = source.rsplit("/", 1)[1]
        with mlflow_errors(self.uri):
            model = self.client.get_logged_model(model_id)
            if weights := model.tags.get(WEIGHTS_TAG):
                self.client.set_logged_model_tags(model_id, {WEIGHTS_MISSING_TAG: weights})
                self.client.delete_logged_model_tag(model_id, WEIGHTS_TAG)
            if is_used():
                self._unmark(source, weights or model.tags.get(WEIGHTS_MISSING_TAG))
                return False
            repository = get_artifact_repository(model.artifact_location, tracking_uri=self.uri)
            for entry in self.client.list_logged_model_artifacts(model_id):
                repository.delete_artifacts(entry.path)
            return True

    def is_complete(self, source: str, weights: str) -> bool:
        """Whether a logged model has these weights, and nobody removes its files."""
        with mlflow_errors(self.uri):
            tags = self.client.get_logged_model(source.rsplit("/", 1)[1]).tags
        return tags.get(WEIGHTS_TAG) == weights and self.has_weights(source)

    def _unmark(self, source: str, weights: str | None) -> None:
        if weights and self.has_weights(source):
            model_id = source.rsplit("/", 1)[1]
            self.client.set_logged_model_tags(model_id, {WEIGHTS_TAG: weights})
            self.client.delete_logged_model_tag(model_id, WEIGHTS_MISSING_TAG)

    def _list(self, model_id: str, folder: str | None) -> Iterator[tuple[str, int]]:
        for entry in self.client.list_logged_model_artifacts(model_id, folder):
            if entry.is_dir:
                yield from self._list(model_id, entry.path)
            else:
                yield entry.path, int(entry.file_size or 0)
