"""Creates or upgrades a registry file and makes its locations relative, before MLflow opens it."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tasks import paths
from tasks.errors import RegistryError
from tasks.tracking.artifact_paths import make_relative
from tasks.tracking.connection import silence_mlflow
from tasks.tracking.sqlite_paths import is_damaged, path_of, project_of, schema_version

logger = logging.getLogger(__name__)

PREPARE_SECONDS = 300
"""An upgrade of a large file by another process may take this long."""


def prepare_file(uri: str, path: Path) -> None:
    """Creates or upgrades the file, one process at a time: MLflow itself breaks a file that two processes open at once."""
    with _one_at_a_time(path):
        version = schema_version(path)
        if version is None and not (path.exists() and path.stat().st_size):
            _create(path)
            return
        if version != newest_schema():
            _upgrade(uri, path, version)
        if make_relative(path):
            logger.info(f"registry: artifact paths in {path} are now relative to the project")


def keep_locations_relative(path: Path) -> None:
    """Makes the locations relative again after MLflow wrote an absolute one."""
    with _one_at_a_time(path):
        make_relative(path)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """A lock for the file, not for the worktree that opens it."""
    from filelock import FileLock, Timeout

    project = project_of(path)
    folder = project / paths.LOCKS if project else path.resolve().parent
    name = "registry.lock" if project else f".{path.name}.lock"
    try:
        lock = FileLock(folder / name).acquire(timeout=PREPARE_SECONDS)
    except Timeout as error:
        fix = "End that process, then run again"
        raise RegistryError("another process is still preparing the registry", where=str(path), fix=fix) from error
    with lock:
        yield


def _upgrade(uri: str, path: Path, version: str | None) -> None:
    """Copies the file to `<name>.before-<schema>`, then lets MLflow upgrade it."""
    import mlflow.db
    from alembic.util.exc import CommandError

    silence_mlflow()
    copy = Path(shutil.copyfile(path, path.with_name(f"{path.name}.before-{version or 'mlflow'}")))
    try:
        mlflow.db.upgrade.callback(uri)
    except CommandError as error:
        copy.unlink()
        fix = (
            "Install the MLflow that wrote it; or name another registry in register.tracking_uri and fill it from git and DVC: "
            "strop registry rebuild"
        )
        what = f"was written by a newer MLflow (schema {version}, here {newest_schema()})"
        raise RegistryError(what, where=str(path), fix=fix) from error


def _create(path: Path) -> None:
    """Creates it under another name first: MLflow takes seconds, and cannot open a file whose creation was killed."""
    import mlflow.db

    silence_mlflow()
    unfinished = path.resolve().with_name(f"{path.name}.half-made")
    for file in unfinished.parent.glob(f"{unfinished.name}*"):  # with SQLite's journal
        file.unlink()
    mlflow.db.upgrade.callback(f"sqlite:///{unfinished}")
    unfinished.replace(path)


def set_damaged_file_aside(uri: str) -> str | None:
    """Renames a damaged file and SQLite's files next to it; returns the new name, or None where it is not damaged."""
    path = path_of(uri)
    if path is None or not path.exists():
        return None
    with _one_at_a_time(path):
        if not is_damaged(path):
            return None
        aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}")
        for ending in ("-journal", "-wal", "-shm", ""):
            file = path.with_name(path.name + ending)
            if file.exists():
                file.rename(aside.with_name(aside.name + ending))
    logger.warning(
        f"registry: the damaged file is kept as {aside}; runs of other experiments and traces are only there"
    )
    return str(aside)


def require_newest_schema(path: Path) -> None:
    """For a file of another project: it is read, and neither created nor upgraded.

    Raises:
        RegistryError: MLflow would have to upgrade it, or is itself too old.
    """
    version = schema_version(path)
    if version is None:
        raise RegistryError("is no MLflow file", where=str(path), fix="Fix the source's tracking_uri in params.yaml")
    if version != newest_schema():
        fix = f"Upgrade it in its own project: mlflow db upgrade sqlite:///{path}; or install here the MLflow that wrote it"
        what = (
            f"is of another version of MLflow (schema {version}, here {newest_schema()}), and is not changed from here"
        )
        raise RegistryError(what, where=str(path), fix=fix)


@cache
def newest_schema() -> str:
    """The migration of the installed MLflow that no other one follows. Its files are read: an import of MLflow takes seconds."""
    package = find_spec("mlflow")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0], "store", "db_migrations", "versions")
    text = "\n".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    all_names = set(re.findall(r'^revision = "(\w+)"', text, re.MULTILINE))
    newest: str
    (newest,) = all_names - set(re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE))
    return newest
