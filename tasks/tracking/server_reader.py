"""Reads a registry server by its REST API, without MLflow. Artifacts that the server does not give are read by MLflow's client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from tasks.errors import RegistryError
from tasks.runtime.files import files_below
from tasks.runtime.redaction.text import without_credentials
from tasks.tracking.artifact_paths import local_folder
from tasks.tracking.connection import TRANSFER_SECONDS, refusal, require_reachable
from tasks.tracking.glance import request
from tasks.tracking.login import has_login
from tasks.tracking.model_ids import model_id_of, names_model
from tasks.tracking.model_versions import Version, anchors_of, no_such_version
from tasks.tracking.runs import RunData

if TYPE_CHECKING:
    from tasks.tracking.registry import Registry

PROXIED = "mlflow-artifacts"
"""The scheme of artifacts that the server itself gives."""
MODEL_META = "registered_model_meta", "model_name: null\nmodel_version: null\n"
"""The file that MLflow's client adds to each logged model that it downloads, as when it was registered, and its content."""
SECONDS = 30.0
OK, MISSING = 200, 404
PIECE = 1 << 20


@dataclass(frozen=True)
class ServerReader:
    """A registered model and its runs, on a server."""

    uri: str
    model: str
    login: dict[str, str]
    by_mlflow: Callable[[], Registry]
    """Opens the registry with MLflow."""

    def version(self, number: int) -> Version:
        if number not in self._versions:
            raise no_such_version(number, self.model, self._versions, self._where)
        return self._versions[number]

    def versions(self) -> list[Version]:
        return list(self._versions.values())

    @cached_property
    def experiment_id(self) -> str:
        answer = self._answer("experiments/get-by-name", {"experiment_name": self.model})
        return str(answer["experiment"]["experiment_id"])

    def anchors(self) -> dict[int, frozenset[str]]:
        return anchors_of({number: version.tags for number, version in self._versions.items()})

    def alias(self, name: str) -> int | None:
        return self._aliases.get(name)

    def model_files(self, source: str, folder: Path) -> dict[str, Path]:
        location = str(self._logged_model(source)["info"]["artifact_uri"])
        files = self._files(location, folder)
        if files is None:
            return self.by_mlflow().model_files(source, folder)
        if "MLmodel" in files and local_folder(location, self.uri) is None:
            name, content = MODEL_META
            files[name] = folder / name
            files[name].write_text(content, encoding="utf-8")
        return dict(sorted(files.items()))

    def weight_files(self, source: str, folder: Path) -> list[Path]:
        return sorted(path for name, path in self.model_files(source, folder).items() if name.endswith(".safetensors"))

    def stored_bytes(self, source: str) -> dict[str, int]:
        return self.by_mlflow().stored_bytes(source)

    def model_metrics(self, source: str | None) -> list[tuple[str, float]]:
        if not names_model(source):
            return []
        metrics = self._logged_model(source).get("data", {}).get("metrics", ())
        return [(str(metric["key"]), float(metric["value"])) for metric in metrics]

    def foreign_location(self, version: Version) -> str:
        fields = {"name": self.model, "version": str(version.version)}
        location = str(self._answer("model-versions/get-download-uri", fields)["artifact_uri"])
        own = self._logged_model(version.source)["info"]["artifact_uri"]
        return "" if location in (own, version.source) else location

    def find_run(self, tag: str, value: str) -> str | None:
        body = {"experiment_ids": [self.experiment_id], "filter": f"tags.`{tag}` = '{value}'", "max_results": 1}
        runs = self._answer("runs/search", body, method="POST").get("runs", ())
        return str(runs[0]["info"]["run_id"]) if runs else None

    def run_data(self, run_id: str) -> RunData:
        run = self._run(run_id)
        data = run.get("data", {})
        values: dict[str, dict[str, Any]] = {
            kind: {str(item["key"]): item.get("value", "") for item in data.get(kind, ())}
            for kind in ("params", "metrics", "tags")
        }
        inputs = run.get("inputs", {}).get("dataset_inputs", ())
        datasets = frozenset(str(item["dataset"]["digest"]) for item in inputs)
        metrics = {key: float(value) for key, value in values["metrics"].items()}
        is_deleted = run["info"]["lifecycle_stage"] != "active"
        return RunData(values["params"], metrics, values["tags"], datasets, is_deleted)

    def history(self, run_id: str, name: str) -> set[tuple[int, float]]:
        metrics = self._answer("metrics/get-history", {"run_id": run_id, "metric_key": name}).get("metrics", ())
        return {(int(metric.get("step", 0)), float(metric["value"])) for metric in metrics}

    def run_files(self, run_id: str, folder: Path) -> dict[str, Path]:
        files = self._files(str(self._run(run_id)["info"]["artifact_uri"]), folder)
        return self.by_mlflow().run_files(run_id, folder) if files is None else files

    @cached_property
    def _versions(self) -> dict[int, Version]:
        require_reachable(self.uri)
        versions = [self._version(item) for item in self._pages("model-versions/search", "model_versions")]
        return {version.version: version for version in sorted(versions, key=lambda version: version.version)}

    def _version(self, item: dict[str, Any]) -> Version:
        number = int(item["version"])
        tags = {str(tag["key"]): str(tag.get("value", "")) for tag in item.get("tags", ())}
        names = sorted(name for name, target in self._aliases.items() if target == number)
        created = int(item["creation_timestamp"]) / 1000
        run_id, source, text = (item.get(key, "") for key in ("run_id", "source", "description"))
        return Version(number, run_id, source, tags, names, created, text)

    @cached_property
    def _aliases(self) -> dict[str, int]:
        model = self._answer("registered-models/get", {"name": self.model}, may_miss=True).get("registered_model", {})
        return {str(alias["alias"]): int(alias["version"]) for alias in model.get("aliases", ())}

    @cached_property
    def _read(self) -> dict[str, dict[str, Any]]:
        """Runs and models that were read already."""
        return {}

    def _run(self, run_id: str) -> dict[str, Any]:
        if run_id not in self._read:
            self._read[run_id] = self._answer("runs/get", {"run_id": run_id})["run"]
        return self._read[run_id]

    def _logged_model(self, source: str | None) -> dict[str, Any]:
        if (model_id := model_id_of(source)) not in self._read:
            self._read[model_id] = self._answer(f"logged-models/{quote(model_id)}", {})["model"]
        return self._read[model_id]

    def _files(self, location: str, folder: Path) -> dict[str, Path] | None:
        """The files at a location: on this disk, or copied below `folder`; None where the server does not give them."""
        if (root := local_folder(location, self.uri)) is not None:
            return files_below(root) if root.is_dir() else None
        parts = urlsplit(location)
        if parts.scheme != PROXIED or parts.netloc:
            return None
        return dict(self._downloads(parts.path.strip("/"), "", folder))

    def _downloads(self, root: str, below: str, folder: Path) -> Iterator[tuple[str, Path]]:
        path = f"{root}/{below}".rstrip("/")
        for item in self._answer("artifacts", {"path": path}, api=PROXIED).get("files", ()):
            name = f"{below}/{item['path'].rpartition('/')[2]}".lstrip("/")
            if ".." in name.split("/"):
                raise RegistryError(f"names a file outside of its folder: {name}", where=self._where)
            if item.get("is_dir"):
                yield from self._downloads(root, name, folder)
            else:
                yield name, self._download(f"{root}/{name}", folder / name)

    def _download(self, path: str, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        response = self._response(f"artifacts/{quote(path)}", {}, api=PROXIED, stream=True, seconds=TRANSFER_SECONDS)
        with response, target.open("wb") as file:
            if response.status_code != OK:
                raise refusal(response.status_code, response.text[:200], self._where, has_login=self._has_login)
            for piece in response.iter_content(PIECE):
                file.write(piece)
        return target

    def _pages(self, endpoint: str, key: str) -> Iterator[dict[str, Any]]:
        fields = {"filter": f"name='{self.model}'", "max_results": "200"}
        while True:
            answer = self._answer(endpoint, fields)
            yield from answer.get(key, ())
            if not (token := answer.get("next_page_token")):
                return
            fields["page_token"] = token

    def _answer(
        self, endpoint: str, fields: dict[str, Any], *, may_miss: bool = False, **options: Any
    ) -> dict[str, Any]:
        response = self._response(endpoint, fields, **options)
        try:
            content = response.json()
        except ValueError:
            content = {}
        if response.status_code == MISSING and may_miss:
            return {}
        if response.status_code != OK or not isinstance(content, dict):
            message = str(content.get("message", "")) if isinstance(content, dict) else ""
            reason = message or f"HTTP {response.status_code}"
            raise refusal(response.status_code, reason, self._where, has_login=self._has_login)
        return content

    def _response(self, endpoint: str, fields: dict[str, Any], *, seconds: float = SECONDS, **options: Any) -> Any:
        try:
            return request(self.uri, endpoint, self.login, fields, seconds=seconds, **options)
        except OSError as error:
            fix = "Start it, or fix register.tracking_uri in params.yaml (or MLFLOW_TRACKING_URI)"
            what = f"the registry cannot be reached ({type(error).__name__})"
            raise RegistryError(what, where=self._where, fix=fix) from error

    @property
    def _where(self) -> str:
        return without_credentials(self.uri)

    @property
    def _has_login(self) -> bool:
        return bool(self.login) or has_login()
