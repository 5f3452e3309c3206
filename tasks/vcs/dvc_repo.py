"""DVC's repository here: opened, waited for while another process holds it, its failures told in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks import paths
from tasks.errors import VersioningError, disk_error, one_line
from tasks.runtime.redaction.text import without_credentials
from tasks.runtime.run_origin import current_snapshot, project
from tasks.vcs.git import main_worktree

if TYPE_CHECKING:
    from dvc.repo import Repo

SITE_CACHE = "DVC_SITE_CACHE_DIR"
_chosen: dict[str, str] = {}
"""The folder that we put into the environment: another project's, perhaps, where one process serves several."""
LOCK_WAIT_SECONDS = 600.0
RETRY_EVERY_SECONDS = 1.0

T = TypeVar("T")


def with_repo(work: Callable[[Repo], T], doing: str, stage: str | None = None) -> T:
    """Does `work` on the DVC repository here, waiting while another process holds it, and tells failures in one line."""
    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.scm import SCMError

    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    is_told = False
    while True:
        try:
            with set_loggers_level(logging.CRITICAL), contextlib.closing(open_repo()) as repo:
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


def open_repo(folder: Path | None = None) -> Repo:
    """DVC's repository here; in the folder of a run, the project's cache, remotes and run cache with the files of the run."""
    from dvc.repo import Repo

    _keep_hashes_private()
    folder = folder or Path.cwd()
    snapshot = current_snapshot(folder)
    if snapshot is None:
        return Repo(str(folder), config=shared_config())
    return Repo(str(folder), config=_config_of(snapshot.project, snapshot.began))


@cache
def _config_of(project: str, began: int) -> dict[str, Any]:
    """The project's DVC settings as they were when the run began. Git is left out: it ignores the folder of a run."""
    from dvc.config import Config

    dvc = Path(project) / ".dvc"
    config: dict[str, Any] = {**Config(str(dvc), validate=False), **(shared_config() or {})}
    return {
        **config,
        "core": {**config.get("core", {}), "no_scm": True},
        "cache": {"dir": str(dvc / "cache"), **config.get("cache", {})},
    }


def share_hashes(source: Path, target: Path, names: list[str], began: int) -> None:
    """Lets DVC know of files in `target` the hashes that it knows of the same files (hard links) in `source`.

    Args:
        began: of the run, within which DVC is asked once where it keeps them.
    """
    from dvc.exceptions import DvcException

    try:
        theirs, ours = _hashes_of(source, began), _hashes_of(target, began)
        known = theirs.get_many([str(source / name) for name in names])
        found = dict(zip(names, (entry for _, entry in known), strict=True))
        ours.set_many([(str(target / name), entry) for name, entry in found.items() if entry])
    except (DvcException, OSError, AttributeError, ValueError, sqlite3.Error):
        return  # it reads them then


@cache
def _hashes_of(folder: Path, began: int) -> Any:
    return open_repo(folder).state.hashes


def _keep_hashes_private() -> None:
    """DVC remembers hashes in pickles (diskcache), by default below /var/tmp, where anybody may put one that runs what it
    likes (CVE-2025-69872): ours lie in a folder of this user's alone. A folder that the user chose for them is the user's.
    """
    here = os.environ.get(SITE_CACHE)
    if here not in (None, _chosen.get(SITE_CACHE)) or _is_configured():
        return
    folder = paths.DVC_SITE.absolute()
    if folder.exists() and not _is_ours(folder):
        folder = folder.with_name(f"{folder.name}-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        fix = f"Remove it, or name another folder: export {SITE_CACHE}=…"
        raise VersioningError("belongs to another user, and DVC would run what it holds", where=str(folder), fix=fix)
    folder.chmod(0o700)
    os.environ[SITE_CACHE] = _chosen[SITE_CACHE] = str(folder)


def _is_ours(folder: Path) -> bool:
    return not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()


def _is_configured() -> bool:
    """Whether a configuration of DVC's names a folder."""
    from dvc.dirs import global_config_dir, system_config_dir

    files = [Path(".dvc/config"), Path(".dvc/config.local")]
    files += [Path(each) / "config" for each in (global_config_dir(), system_config_dir())]
    return any("site_cache_dir" in file.read_text("utf-8", errors="replace") for file in files if file.is_file())


def shared_config() -> dict[str, Any] | None:
    """In a linked git worktree, the main worktree's cache and its own settings (`.dvc/config.local`), which git does not bring.

    The worktrees share tags and ledger; so each of them can have every version's data.
    """
    from dvc.config import Config

    main = main_worktree()
    if main is None or not (main / ".dvc" / "cache").is_dir() or (project() / ".dvc/config.local").exists():
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
        told = one_line(error) or type(error).__name__
        fix = "Mend the remote or its credentials (dvc remote list), then run again"
        raise VersioningError(f"the DVC remote cannot be used ({told})", where=default_remote(repo), fix=fix) from error


REMEDIES = {
    paths.DVC_LOCK.name: "Remove it, then run again: what is unchanged comes from DVC's cache",
    paths.RAW_DVC.name: "Remove it, then run again: data/raw is added as it is",
    paths.DVC_YAML.name: "Restore it: git checkout dvc.yaml",
}


def damaged_record(path: Path, error: object, revision: str | None = None) -> VersioningError:
    """One of DVC's own files cannot be read; how to go on."""
    if revision is not None:
        fix = "Restore that commit from another clone, or leave the version: strop history"
        return VersioningError(f"damaged ({error})", where=f"{path} of {revision}", fix=fix)
    fix = REMEDIES.get(path.name, f"Restore it: git checkout {path}")
    return VersioningError(f"damaged ({error})", where=str(path), fix=fix)


def default_remote(repo: Repo) -> str | None:
    """The name of the default remote and, where it is in git's own .dvc/config, its address, as it may be kept in a receipt."""
    name = repo.config["core"].get("remote")
    if not name:
        return None
    public = repo.config.load_one("repo").get("remote", {}).get(name, {}).get("url")
    whole = repo.config["remote"].get(name, {}).get("url")
    return f"{name} {without_credentials(str(whole))}" if public else str(name)


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
    from dvc.utils.serialize import ParseError
    from dvc.utils.strictyaml import YAMLValidationError

    if refused := disk_error(error):
        return VersioningError(f"{doing}: {refused.what}", where=refused.where, fix=refused.fix)
    for cause in _causes(error):
        if isinstance(cause, ParseError | YAMLValidationError):
            path = Path(str(getattr(cause, "relpath", None) or getattr(cause, "path", "")))
            return damaged_record(path, _one_line(cause))
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
    reasons = dict.fromkeys(_one_line(cause) for cause in _causes(error))  # each once, in order
    told = ": ".join([reason for reason in reasons if reason][:2])
    return VersioningError(f"{doing}: {told or type(error).__name__}", fix="See: dvc status; dvc doctor")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
