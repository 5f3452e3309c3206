"""The registry as a file: where it is, whether it is whole, and whether another process holds it, before MLflow opens it.

MLflow would wait for minutes on a file that it cannot open, and break a fresh one that two processes open at once.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from tasks import paths
from tasks.errors import DiskError, RegistryError, StropError
from tasks.runtime.run_origin import project
from tasks.vcs.git import main_worktree

LOCK_WAIT_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.2

REBUILD = "Make it again from tags, receipts and DVC: strop registry rebuild"


def path_of(uri: str) -> Path | None:
    """The file behind a `sqlite:///` address; None for any other."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix).split("?")[0]) if uri.startswith(prefix) else None


def located(path: Path) -> Path:
    """The one absolute path of a registry file: links resolved, and in a linked git worktree that of the main worktree.

    Linked worktrees share the ledger, which is in git's refs; with a registry each, they would number two models alike.
    """
    if path.is_absolute():
        return path.resolve()
    here = project() / path  # a run works in a folder of its own
    if not here.exists() and (main := main_worktree()):
        return (main / path).resolve()
    return here.resolve()


def located_uri(uri: str) -> str:
    """The address with the one absolute path of a registry file in it; any other as it is.

    Raises:
        RegistryError: the path holds a `?`, where such an address ends: MLflow would make another file beside it.
    """
    path = path_of(uri)
    if path is None:
        return uri
    if "?" in str(place := located(path)):
        told = "the path holds a `?`, where the address of an SQLite file ends"
        raise RegistryError(told, where=str(place), fix="Rename that folder, then run again")
    return uri.replace(str(path), str(place), 1)


def project_of(path: Path) -> Path | None:
    """The project that a registry file belongs to: the nearest one above it. None for a file outside of any."""
    folders = path.resolve().parents
    return next((f for f in folders if (f / paths.PARAMS).is_file() and (f / paths.DVC_YAML).is_file()), None)


def schema_version(path: Path) -> str | None:
    """Which migration the file is at; None for a file that is not there or empty.

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
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(found[0]) if found else None
    except sqlite3.Error as error:
        fix = "See that it may be read and written, then run again"
        raise trouble_with_file(path, str(error)) or RegistryError(
            f"the registry cannot be opened ({error})", where=str(path), fix=fix
        ) from error


def is_damaged(path: Path) -> bool:
    """Whether the file is no database, or one whose pages or tables contradict each other. Reads the whole file."""
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            return bool(database.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok")
    except sqlite3.OperationalError:  # locked, or it may not be read
        return False
    except sqlite3.DatabaseError:
        return True


def wait_while_locked(path: Path) -> None:
    """Waits while another process writes to the file. MLflow waits for 20 seconds at most, and tells nobody.

    Raises:
        RegistryError: it is still locked after a minute.
    """
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    is_told = False
    while _is_locked(path):
        if time.monotonic() > deadline:
            raise _locked(path)
        if not is_told:
            print(f"registry: waiting for another process that has locked {path} …", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(LOOK_EVERY_SECONDS)


def trouble_with_file(path: Path, message: str, is_ours: bool = True) -> StropError | None:
    """What SQLite's message means for the registry and how to fix it; None for a message that is not about the file."""
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
        return RegistryError("may not be read or written", where=where, fix="Mend its permissions, then run again")
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
    except sqlite3.DatabaseError:  # no database: told when it is opened
        return False
    return False
