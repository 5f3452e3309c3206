"""A registry file is made, or upgraded, and its locations are made relative, before MLflow opens it."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks import paths
from tasks.errors import RegistryError
from tasks.tracking.artifact_paths import make_relative
from tasks.tracking.connection import hush
from tasks.tracking.sqlite_paths import is_damaged, path_of, project_of, schema_version

PREPARE_SECONDS = 300
"""An upgrade of a large file by another process takes long."""


def prepare_file(uri: str, path: Path) -> None:
    """Makes or upgrades the file, one process at a time: MLflow's own attempt breaks a file that two open at once."""
    with _one_at_a_time(path):
        at = schema_version(path)
        if at is None and not (path.exists() and path.stat().st_size):
            _make(path)
            return
        if at != _newest_schema():
            _upgrade(uri, path, at)
        if make_relative(path):
            print(f"registry: artifact paths in {path} are now relative to the project", file=sys.stderr, flush=True)


def keep_locations_relative(path: Path) -> None:
    """After MLflow wrote an absolute one."""
    with _one_at_a_time(path):
        make_relative(path)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """A lock that belongs to the file, not to the worktree that it is opened from."""
    from filelock import FileLock, Timeout

    project = project_of(path)
    folder = project / paths.LOCKS if project else path.resolve().parent
    name = "registry.lock" if project else f".{path.name}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / name, timeout=PREPARE_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        fix = "End that process, then run again"
        raise RegistryError("another process is still preparing the registry", where=str(path), fix=fix) from error
    try:
        yield
    finally:
        lock.release()


def _upgrade(uri: str, path: Path, at: str | None) -> None:
    """Keeps a copy of the file beside it, then lets MLflow upgrade it."""
    import mlflow.db
    from alembic.util.exc import CommandError

    hush()
    copy = Path(shutil.copyfile(path, path.with_name(f"{path.name}.before-{at or 'mlflow'}")))
    try:
        mlflow.db.upgrade.callback(uri)
    except CommandError as error:
        copy.unlink()
        fix = (
            "Install the MLflow that wrote it; or name another registry in register.tracking_uri and fill it from git and DVC: "
            "strop registry rebuild"
        )
        told = f"was written by a newer MLflow (schema {at}, here {_newest_schema()})"
        raise RegistryError(told, where=str(path), fix=fix) from error


def _make(path: Path) -> None:
    """Beside its place: MLflow takes seconds, and cannot open any more what a kill leaves of a file half made."""
    import mlflow.db

    hush()
    half_made = path.resolve().with_name(f"{path.name}.half-made")
    for left in half_made.parent.glob(f"{half_made.name}*"):  # SQLite's journal, too
        left.unlink()
    mlflow.db.upgrade.callback(f"sqlite:///{half_made}")
    half_made.replace(path)


def put_damaged_file_aside(uri: str) -> str | None:
    """Renames a file that is no whole database, and what SQLite keeps beside it; returns the new name. None where it is whole."""
    path = path_of(uri)
    if path is None or not path.exists():
        return None
    with _one_at_a_time(path):
        if not is_damaged(path):
            return None
        aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}")
        for ending in ("-journal", "-wal", "-shm", ""):
            beside = path.with_name(path.name + ending)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + ending))
    print(
        f"registry: the damaged file is kept as {aside}; runs of other experiments and traces are only there",
        flush=True,
    )
    return str(aside)


def require_newest_schema(path: Path) -> None:
    """For a file that belongs to somebody else: it is read, and neither made nor upgraded.

    Raises:
        RegistryError: MLflow would have to upgrade it, or is itself too old.
    """
    at = schema_version(path)
    if at is None:
        raise RegistryError("is no MLflow file", where=str(path), fix="Mend the source's tracking_uri in params.yaml")
    if at != _newest_schema():
        fix = f"Where it belongs: mlflow db upgrade sqlite:///{path}; or install here the MLflow that wrote it"
        told = f"is of another version of MLflow (schema {at}, here {_newest_schema()}), and is not changed from here"
        raise RegistryError(told, where=str(path), fix=fix)


def _newest_schema() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())
