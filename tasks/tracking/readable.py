"""The registry for reading: a version, its run and its files, without MLflow, whose import alone takes seconds.

    registry = open_for_reading(config)

A file and a PostgreSQL database are read by SQL, a server by HTTP. Everything else (another database, a store that neither disk nor
server gives, a file that MLflow has yet to upgrade) is read through MLflow, which is imported only then.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.errors import RegistryError
from tasks.tracking.database_reader import DatabaseReader, has_tables
from tasks.tracking.file_reader import FileReader, is_readable
from tasks.tracking.model_versions import Version
from tasks.tracking.postgres import is_postgres
from tasks.tracking.postgres_setup import require_schema
from tasks.tracking.runs import RunData
from tasks.tracking.server_reader import ServerReader
from tasks.tracking.sqlite_paths import REBUILD, path_of

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


class ReadableRegistry(Protocol):
    """What an audit reads of a registered model. `Registry` has it, too."""

    @property
    def experiment_id(self) -> str: ...
    def version(self, number: int) -> Version: ...
    def versions(self) -> list[Version]: ...
    def anchors(self) -> dict[int, frozenset[str]]: ...
    def alias(self, name: str) -> int | None: ...
    def model_files(self, source: str, folder: Path) -> dict[str, Path]: ...
    def weight_files(self, source: str, folder: Path) -> list[Path]: ...
    def model_metrics(self, source: str | None) -> list[tuple[str, float]]: ...
    def stored_bytes(self, source: str) -> dict[str, int]: ...
    def foreign_location(self, version: Version) -> str: ...
    def find_run(self, tag: str, value: str) -> str | None: ...
    def run_data(self, run_id: str) -> RunData: ...
    def history(self, run_id: str, name: str) -> set[tuple[int, float]]: ...
    def run_files(self, run_id: str, folder: Path) -> dict[str, Path]: ...


def open_for_reading(config: PipelineConfig) -> ReadableRegistry:
    """The registry that the settings name. A file that MLflow has yet to upgrade is upgraded; nothing else is created or changed.

    Raises:
        RegistryError: it does not exist, cannot be reached, or is no registry.
    """
    from tasks.tracking.registry import open_registry, tracking_login, tracking_uri

    uri, model = tracking_uri(config), config.register_.model_name
    path = path_of(uri)
    if path is not None and not path.exists():
        raise RegistryError("the registry does not exist", where=str(path), fix=REBUILD)
    if path is not None and is_readable(path):
        return FileReader(uri, model, lambda: open_registry(config), path)
    if is_postgres(uri):
        if has_tables(uri):
            return DatabaseReader(uri, model, lambda: open_registry(config))
        require_schema(uri)
    if uri.startswith("http"):
        return ServerReader(uri, model, tracking_login(config), lambda: open_registry(config))
    return open_registry(config)
