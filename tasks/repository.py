"""DVC's repository here: opened, waited for while another process holds it, its failures told in one line."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.errors import VersioningError
from tasks.git import main_worktree

if TYPE_CHECKING:
    from dvc.repo import Repo

LOCK_WAIT_SECONDS = 600.0
RETRY_EVERY_SECONDS = 1.0

T = TypeVar("T")


def with_repo(work: Callable[[Repo], T], doing: str, stage: str | None = None) -> T:
    """Does `work` on the DVC repository here, waiting while another process holds it, and tells failures in one line."""
    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo
    from dvc.scm import SCMError

    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    is_told = False
    while True:
        try:
            with set_loggers_level(logging.CRITICAL), contextlib.closing(Repo(config=shared_config())) as repo:
                return work(repo)
        except (DvcException, SCMError) as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise _told(error, doing, stage) from error
            if not is_told:
                print(
                    f"{doing}: waiting for another process that works on the same data …", file=sys.stderr, flush=True
                )
                is_told = True
        time.sleep(RETRY_EVERY_SECONDS)


def shared_config() -> dict[str, Any] | None:
    """In a linked git worktree, the main worktree's cache and its own settings (`.dvc/config.local`), which git does not bring.

    The worktrees share tags and ledger; so each of them can have every version's data.
    """
    from dvc.config import Config

    main = main_worktree()
    if main is None or not (main / ".dvc" / "cache").is_dir() or Path(".dvc/config.local").exists():
        return None
    local = Config(str(main / ".dvc"), validate=False).load_one("local")
    return {**local, "cache": {"dir": str((main / ".dvc" / "cache").resolve()), **local["cache"]}}


def reaching(repo: Repo, work: Callable[[], Any]) -> None:
    """Does something that needs the remote, and tells what its client says in one line."""
    from dvc.exceptions import DvcException

    try:
        work()
    except DvcException:
        raise  # told by the caller
    except Exception as error:  # S3, SSH and the others each have an exception tree of their own
        told = " ".join(str(error).split())[:300] or type(error).__name__
        fix = "Mend the remote or its credentials (dvc remote list), then run again"
        raise VersioningError(f"the DVC remote cannot be used ({told})", where=default_remote(repo), fix=fix) from error


def default_remote(repo: Repo) -> str | None:
    name = repo.config["core"].get("remote")
    if not name:
        return None
    return f"{name} {repo.config['remote'].get(name, {}).get('url', '')}".strip()


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_locked(error: BaseException) -> bool:
    from dvc.lock import LockError

    return any(isinstance(cause, LockError) for cause in _causes(error))


def _told(error: BaseException, doing: str, stage: str | None) -> VersioningError:
    """What DVC said, in one line, with what to do."""
    from dvc.exceptions import CheckoutError, NotDvcRepoError
    from dvc.stage.exceptions import StageCmdFailedError

    for cause in _causes(error):
        if isinstance(cause, StageCmdFailedError) and stage:
            return VersioningError(f"stage `{stage}` failed; its reason stands above", fix="Mend that, then run again")
        if isinstance(cause, NotDvcRepoError):
            return VersioningError("no DVC repository", where=str(Path.cwd()), fix="Make one: dvc init")
        if isinstance(cause, CheckoutError):
            break
    if _is_locked(error):
        return VersioningError(
            f"{doing}: another process still works on the same data", fix="End it, or wait, then run again"
        )
    reasons = dict.fromkeys(" ".join(str(cause).split()).rstrip(".") for cause in _causes(error))  # each once, in order
    told = ": ".join([reason for reason in reasons if reason][:2])
    return VersioningError(f"{doing}: {told or type(error).__name__}", fix="See: dvc status; dvc doctor")
