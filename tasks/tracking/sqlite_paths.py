"""The registry as an SQLite file: its path, and whether it is damaged or locked, before MLflow opens it.

MLflow would wait for minutes on a file that it cannot open, and would break a new one that two processes open at once.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from tasks import paths
from tasks.errors import DiskError, RegistryError, StropError
from tasks.runtime.run_origin import project
from tasks.vcs.git import main_worktree

logger = logging.getLogger(__name__)

LOCK_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.2
REPORT_AFTER_SECONDS = 1.0
"""A server that delivers its records locks the file for moments."""

REBUILD = "Make it again from tags, receipts and DVC: strop registry rebuild"


def open_read_only(path: Path) -> closing[sqlite3.Connection]:
    """A context manager with a connection that cannot change the file."""
    return closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, timeout=2))


def path_of(uri: str) -> Path | None:
    """The file behind a `sqlite:///` address; None for any other."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix).split("?")[0]) if uri.startswith(prefix) else None


def absolute_path(path: Path) -> Path:
    """The absolute path of a registry file: links resolved, and in a linked git worktree the path in the main worktree.

    Linked worktrees share the ledger, which is in git's refs; with two registries, two models would get the same number.
    """
    if path.is_absolute():
        return path.resolve()
    local_path = project() / path  # a run has a working directory of its own
    if not local_path.exists() and (worktree := main_worktree()):
        return (worktree / path).resolve()
    return local_path.resolve()


def absolute_uri(uri: str) -> str:
    """The address with the absolute path of a registry file; any other address unchanged.

    Raises:
        RegistryError: the path contains a `?`, where such an address ends: MLflow would create another file.
    """
    path = path_of(uri)
    if path is None:
        return uri
    if "?" in str(absolute := absolute_path(path)):
        what = "the path contains a `?`, where the address of an SQLite file ends"
        raise RegistryError(what, where=str(absolute), fix="Rename that folder, then run again")
    return uri.replace(str(path), str(absolute), 1)


def project_of(path: Path) -> Path | None:
    """The project that a registry file belongs to: the nearest one above it; None outside of any project."""
    folders = path.resolve().parents
    return next((f for f in folders if (f / paths.PARAMS).is_file() and (f / paths.DVC_YAML).is_file()), None)


def schema_version(path: Path) -> str | None:
    """The migration that the file has; None for a missing or empty file.

    Raises:
        RegistryError: it cannot be opened, or is no database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return None
    wait_while_locked(path)
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "alembic_version" not in tables:
                return None
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(row[0]) if row else None
    except sqlite3.Error as error:
        fix = "Check that it can be read and written, then run again"
        raise file_error(path, str(error)) or RegistryError(
            f"the registry cannot be opened ({error})", where=str(path), fix=fix
        ) from error


def is_damaged(path: Path) -> bool:
    """Whether the file is no database, or one with inconsistent pages or tables. Reads the whole file."""
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            return bool(database.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok")
    except sqlite3.OperationalError:  # locked or unreadable
        return False
    except sqlite3.DatabaseError:
        return True


def wait_while_locked(path: Path) -> None:
    """Waits while another process writes to the file. MLflow waits for at most 20 seconds, without a message.

    Raises:
        RegistryError: it is still locked after a minute.
    """
    began = time.monotonic()
    has_reported = False
    while _is_locked(path):
        waited = time.monotonic() - began
        if waited > LOCK_WAIT_SECONDS:
            raise _locked(path)
        if not has_reported and waited >= REPORT_AFTER_SECONDS:
            logger.warning(f"registry: waiting for another process that has locked {path} …")
            has_reported = True
        time.sleep(POLL_SECONDS)


def file_error(path: Path, message: str, is_ours: bool = True) -> StropError | None:
    """The error for an SQLite message about the registry's file; None for any other message."""
    where = str(path)
    if "locked" in message and "database" in message:
        return _locked(path)
    if "malformed" in message or "not a database" in message or "disk I/O error" in message:
        fix = REBUILD if is_ours else "Restore it from a backup, or name another one"
        return RegistryError("the registry's file is damaged", where=where, fix=fix)
    if "disk is full" in message:
        fix = "Free some (`dvc gc -w -T`, an old .strop/checkpoints), then run again: nothing is lost"
        return DiskError("no space left for the registry", where=where, fix=fix)
    if "readonly database" in message or "unable to open database file" in message:
        return RegistryError("cannot be read or written", where=where, fix="Fix its permissions, then run again")
    return None


def _locked(path: Path) -> RegistryError:
    fix = "End that process (a strop command, mlflow/serve.sh, a database browser), then run again"
    return RegistryError("another process keeps the registry's file locked", where=str(path), fix=fix)


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:  # no database: reported when it is opened
        return False
    return False
