"""Logged models: logged once by their weights, loaded, and their weight files found on the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.errors import RegistryError
from tasks.runtime.files import file_digest
from tasks.tracking.artifact_paths import local_folder
from tasks.tracking.client import Connected
from tasks.tracking.connection import patient, quiet, telling
from tasks.tracking.model_versions import Version


class Models(Connected):
    """The models that the runs of one experiment logged."""

    def find_models(self, weights: str) -> list[str]:
        """The addresses of the models that were logged whole with these weights, so that none is stored twice."""
        with telling(self.uri):
            query = f"tags.`strop.weights` = '{weights}'"
            found = self.client.search_logged_models([self.experiment_id], filter_string=query)
            return [str(model.model_uri) for model in found if str(model.status) == "READY"]

    def log_model(
        self, run_id: str, model: Any, tokenizer: Any, weights: str, base: Path | None, speaks: bool = True
    ) -> str:
        """Logs a model (with `base`, an adapter on it; one that does not speak has a head of labels) and returns its address."""
        import mlflow

        os.environ["MLFLOW_HUGGINGFACE_MODEL_MAX_SHARD_SIZE"] = "10TB"  # one file, as it came: the bytes are compared
        # an adapter that is logged without its base's path reloads with wrong weights, and only whispers
        to_base = {"base_model_path": str(base.resolve())} if base is not None else {}
        with telling(self.uri), quiet(), patient():
            self._remove_half_logged(weights)
            with _no_other_experiment(), mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=False):
                logged = mlflow.transformers.log_model(
                    {"model": model, "tokenizer": tokenizer},
                    name=self.model,
                    task="llm/v1/chat" if speaks else "text-classification",
                    tags={"strop.weights": weights},
                    pip_requirements=_requirements(is_adapter=base is not None),  # guessing them loads the model again
                    **to_base,
                )
        return str(logged.model_uri)

    def load_model(self, model_uri: str, base: Path | None) -> tuple[Any, Any]:
        """The model and tokenizer behind an address (`models:/m-…`, `models:/name/3`, `models:/name@champion`)."""
        import mlflow

        to_base = {"base_model_path": str(base.resolve())} if base is not None else {}
        with TemporaryDirectory(prefix="strop-model-") as folder, telling(self.uri), quiet(), patient():
            # MLflow never removes what it downloads to a place of its own
            place = None if model_uri.startswith("models:/m-") and self._local_artifacts(model_uri) else folder
            parts = mlflow.transformers.load_model(model_uri, dst_path=place, return_type="components", **to_base)
        return parts["model"], parts["tokenizer"]

    def add_file(self, model_uri: str, file: Path) -> None:
        """Puts a file beside a logged model's own."""
        with telling(self.uri), quiet(), patient():
            self.client.log_model_artifact(model_uri.rsplit("/", 1)[1], str(file))

    def log_empty_model(self, run_id: str, weights: str) -> str:
        """The address of a model without files, for a version whose weights are nowhere."""
        with telling(self.uri):
            made = self.client.create_logged_model(
                self.experiment_id, self.model, run_id, tags={"strop.weights_missing": weights}
            )
            self.client.finalize_logged_model(made.model_id, "READY")
            return str(made.model_uri)

    def has_weights(self, source: str) -> bool:
        """Whether a logged model holds any *.safetensors; they are not read."""
        model_id, folders = source.rsplit("/", 1)[1], [""]
        with telling(self.uri):
            while folders:
                for file in self.client.list_logged_model_artifacts(model_id, folders.pop() or None):
                    if file.is_dir:
                        folders.append(file.path)
                    elif file.path.endswith(".safetensors"):
                        return True
        return False

    def copy_files(self, source: str, target: str) -> None:
        """Puts the files of a logged model into another one."""
        from mlflow.artifacts import download_artifacts

        with TemporaryDirectory(prefix="strop-model-") as folder, telling(self.uri), quiet(), patient():
            place = self._local_artifacts(source)
            if place is None:
                place = Path(download_artifacts(source, dst_path=folder, tracking_uri=self.uri))
            self.client.log_model_artifacts(target.rsplit("/", 1)[1], str(place))

    def forget_model(self, model_uri: str) -> None:
        """Removes a logged model that must not be used."""
        with telling(self.uri):
            self.client.delete_logged_model(model_uri.rsplit("/", 1)[1])

    def weight_files(self, source: str, folder: Path) -> list[Path]:
        """The *.safetensors of a logged model: where they lie, or where they were downloaded to below `folder`."""
        return sorted(path for name, path in self.model_files(source, folder).items() if name.endswith(".safetensors"))

    def model_files(self, source: str, folder: Path) -> dict[str, Path]:
        """Every file of a logged model by its place in it: where it lies, or was downloaded to below `folder`."""
        from mlflow.artifacts import download_artifacts

        with telling(self.uri), quiet(), patient():
            place = self._local_artifacts(source)
            if place is None:
                place = Path(download_artifacts(source, dst_path=str(folder), tracking_uri=self.uri))
            return {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*")) if path.is_file()}

    def model_metrics(self, source: str | None) -> list[tuple[str, float]]:
        """The metrics that MLflow shows beside a logged model: of the run that logged it. Empty where the source names none."""
        if not _names_model(source):
            return []
        with telling(self.uri):
            metrics = self.client.get_logged_model(_model_id(source)).metrics or []
            return [(str(metric.key), float(metric.value)) for metric in metrics]

    def misplaced(self, version: Version) -> str:
        """Where MLflow loads a version by its number from, if that is not its own logged model; "" where it is.

        The registry notes the place twice: `models:/NAME/3` is loaded from the version's own note.
        """
        with telling(self.uri):
            place = self.client.get_model_version_download_uri(self.model, str(version.version))
            own = self.client.get_logged_model(_model_id(version.source)).artifact_location
        return "" if place in (own, version.source) else str(place)

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
        place = local_folder(self.client.get_logged_model(_model_id(source)).artifact_location, self.uri)
        return place if place and place.is_dir() else None

    def _remove_half_logged(self, weights: str) -> None:
        """What a process that was killed while logging left behind."""
        query = f"tags.`strop.weights` = '{weights}'"
        for model in self.client.search_logged_models([self.experiment_id], filter_string=query):
            if str(model.status) != "READY":
                if place := local_folder(model.artifact_location, self.uri):
                    shutil.rmtree(place.parent, ignore_errors=True)
                self.client.delete_logged_model(model.model_id)


def _model_id(source: str | None) -> str:
    """The logged model that a version's source names. Raises RegistryError where it names none: all that Strop registers are."""
    if not _names_model(source):
        fix = "See who registered it: strop history. Make it again: strop registry rebuild"
        raise RegistryError("names no logged model", where=f"the registry, source {source!r}", fix=fix)
    return str(source).removeprefix("models:/")


def _names_model(source: str | None) -> bool:
    return str(source).startswith("models:/m-")


@contextlib.contextmanager
def _no_other_experiment() -> Iterator[None]:
    """MLflow does not resume a run of one experiment while this process has another one set (a notebook, a traced application)."""
    from mlflow.tracking import fluent

    before = fluent._active_experiment_id
    fluent._active_experiment_id = None
    try:
        yield
    finally:
        fluent._active_experiment_id = before


def _requirements(is_adapter: bool) -> list[str]:
    from importlib.metadata import version

    names = ["torch", "transformers", "accelerate", *(["peft"] if is_adapter else [])]
    return [f"{name}=={version(name).split('+')[0]}" for name in names]
