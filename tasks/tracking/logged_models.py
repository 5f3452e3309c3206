"""Logged models: each set of weights is logged once, loaded again, and its files are located on the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from warnings import catch_warnings

from tasks.runtime.files import file_digest, files_below
from tasks.tracking.artifact_paths import local_folder
from tasks.tracking.connection import TRANSFER_SECONDS, RegistryConnection, long_timeout, mlflow_errors
from tasks.tracking.model_ids import model_id_of, names_model
from tasks.tracking.model_versions import Version
from tasks.tracking.tags import WEIGHTS_MISSING_TAG, WEIGHTS_TAG


class Models(RegistryConnection):
    """The logged models of one experiment."""

    def find_models(self, weights: str) -> list[str]:
        """The addresses of the completely logged models with these weights, so that none is stored twice."""
        with mlflow_errors(self.uri):
            return [str(model.model_uri) for model in self._with_weights(weights) if str(model.status) == "READY"]

    def log_model(
        self, run_id: str, model: Any, tokenizer: Any, weights: str, base: Path | None, is_generative: bool = True
    ) -> str:
        """Logs a model and returns its address.

        Args:
            base: the folder of the base, for an adapter.
            is_generative: False for a model with a classification or reward head.
        """
        import mlflow

        os.environ["MLFLOW_HUGGINGFACE_MODEL_MAX_SHARD_SIZE"] = "10TB"  # one file, as it is: the bytes are compared
        # an adapter that is logged without its base's path reloads with wrong weights and only a log line
        options = {"base_model_path": str(base.resolve())} if base is not None else {}
        with self._transfer():
            self._remove_half_logged(weights, run_id)
            with _no_other_experiment(), mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=False):
                info = mlflow.transformers.log_model(
                    {"model": model, "tokenizer": tokenizer},
                    name=self.model,
                    task="llm/v1/chat" if is_generative else "text-classification",
                    tags={WEIGHTS_TAG: weights},
                    pip_requirements=_requirements(is_adapter=base is not None),  # guessing them loads the model again
                    **options,
                )
        return str(info.model_uri)

    def load_model(self, model_uri: str, base: Path | None) -> tuple[Any, Any]:
        """The model and tokenizer behind an address (`models:/m-…`, `models:/name/3`, `models:/name@champion`)."""
        import mlflow

        options = {"base_model_path": str(base.resolve())} if base is not None else {}
        with TemporaryDirectory(prefix="strop-model-") as folder, self._transfer():
            # MLflow never removes what it downloads to a folder of its own
            target = None if model_uri.startswith("models:/m-") and self._local_artifacts(model_uri) else folder
            parts = mlflow.transformers.load_model(model_uri, dst_path=target, return_type="components", **options)
        return parts["model"], parts["tokenizer"]

    def add_file(self, model_uri: str, file: Path) -> None:
        """Adds a file to a logged model."""
        with self._transfer():
            self.client.log_model_artifact(model_uri.rsplit("/", 1)[1], str(file))

    def log_empty_model(self, run_id: str, weights: str) -> str:
        """The address of a new model without files, for a version whose weights are lost."""
        with mlflow_errors(self.uri):
            model = self.client.create_logged_model(
                self.experiment_id, self.model, run_id, tags={WEIGHTS_MISSING_TAG: weights}
            )
            self.client.finalize_logged_model(model.model_id, "READY")
            return str(model.model_uri)

    def has_weights(self, source: str) -> bool:
        """Whether a logged model holds any *.safetensors; they are not read."""
        model_id, folders = source.rsplit("/", 1)[1], [""]
        with mlflow_errors(self.uri):
            while folders:
                for file in self.client.list_logged_model_artifacts(model_id, folders.pop() or None):
                    if file.is_dir:
                        folders.append(file.path)
                    elif file.path.endswith(".safetensors"):
                        return True
        return False

    def copy_files(self, source: str, target: str) -> None:
        """Copies the files of a logged model into another one."""
        from mlflow.artifacts import download_artifacts

        with TemporaryDirectory(prefix="strop-model-") as folder, self._transfer():
            files = self._local_artifacts(source)
            if files is None:
                files = Path(download_artifacts(source, dst_path=folder, tracking_uri=self.uri))
            self.client.log_model_artifacts(target.rsplit("/", 1)[1], str(files))

    def delete_model(self, model_uri: str) -> None:
        """Removes a logged model that must not be used."""
        with mlflow_errors(self.uri):
            self.client.delete_logged_model(model_uri.rsplit("/", 1)[1])

    def weight_files(self, source: str, folder: Path) -> list[Path]:
        """The *.safetensors of a logged model: on this disk, or downloaded below `folder`."""
        return sorted(path for name, path in self.model_files(source, folder).items() if name.endswith(".safetensors"))

    def model_files(self, source: str, folder: Path) -> dict[str, Path]:
        """Relative path in a logged model → its file: on this disk, or downloaded below `folder`."""
        from mlflow.artifacts import download_artifacts

        with self._transfer():
            root = self._local_artifacts(source)
            if root is None:
                root = Path(download_artifacts(source, dst_path=str(folder), tracking_uri=self.uri))
            return files_below(root)

    def model_metrics(self, source: str | None) -> list[tuple[str, float]]:
        """The metrics that MLflow copies to a logged model from its run. Empty where the source names no logged model."""
        if not names_model(source):
            return []
        with mlflow_errors(self.uri):
            metrics = self.client.get_logged_model(model_id_of(source)).metrics or []
            return [(str(metric.key), float(metric.value)) for metric in metrics]

    def foreign_location(self, version: Version) -> str:
        """The location that MLflow loads a version from by its number, if it is not the version's own logged model; else "".

        The registry stores the location twice: `models:/NAME/3` uses the one that is stored with the version.
        """
        with mlflow_errors(self.uri):
            location = self.client.get_model_version_download_uri(self.model, str(version.version))
            own = self.client.get_logged_model(model_id_of(version.source)).artifact_location
        return "" if location in (own, version.source) else str(location)

    def share_weights(self, source: str, kept: Path) -> None:
        """Where registry and project share a disk, equal weight files become hard links: full weights cost their size once."""
        with mlflow_errors(self.uri):
            root = self._local_artifacts(source)
        for file in root.rglob("*.safetensors") if root else []:
            local_file = kept / file.name
            if local_file.is_file() and not local_file.samefile(file) and file_digest(local_file) == file_digest(file):
                temporary = file.with_name(f".{file.name}.link")
                with contextlib.suppress(OSError):  # on another disk the weights cost their size twice
                    temporary.unlink(missing_ok=True)
                    os.link(local_file, temporary)
                    temporary.replace(file)

    @contextlib.contextmanager
    def _transfer(self) -> Iterator[None]:
        """For files of any size: errors in one line, no warnings, an hour of patience."""
        with mlflow_errors(self.uri), catch_warnings(action="ignore"), long_timeout():
            yield

    def _local_artifacts(self, source: str) -> Path | None:
        root = local_folder(self.client.get_logged_model(model_id_of(source)).artifact_location, self.uri)
        return root if root and root.is_dir() else None

    def _with_weights(self, weights: str) -> Any:
        query = f"tags.`{WEIGHTS_TAG}` = '{weights}'"
        return self.client.search_logged_models([self.experiment_id], filter_string=query)

    def _remove_half_logged(self, weights: str, run_id: str) -> None:
        """Removes what a process that was killed while logging left behind. A model of another run may still be logged by another
        machine, whose training gave the same weights, until it is as old as the longest transfer."""
        oldest = (time.time() - TRANSFER_SECONDS) * 1000
        for model in self._with_weights(weights):
            may_be_in_progress = model.source_run_id != run_id and model.creation_timestamp > oldest
            if str(model.status) != "READY" and not may_be_in_progress:
                if root := local_folder(model.artifact_location, self.uri):
                    shutil.rmtree(root.parent, ignore_errors=True)
                self.client.delete_logged_model(model.model_id)


@contextlib.contextmanager
def _no_other_experiment() -> Iterator[None]:
    """MLflow resumes no run of one experiment while the process has set another one (a notebook, a traced application)."""
    from mlflow.tracking import fluent

    previous = fluent._active_experiment_id
    fluent._active_experiment_id = None
    try:
        yield
    finally:
        fluent._active_experiment_id = previous


def _requirements(is_adapter: bool) -> list[str]:
    from importlib.metadata import version

    names = ["torch", "transformers", "accelerate", *(["peft"] if is_adapter else [])]
    return [f"{name}=={version(name).split('+')[0]}" for name in names]
