"""Opens the DVC repository, waits for its lock, and converts its errors to one line."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks import paths
from tasks.errors import VersioningError, causes, disk_error, one_line
from tasks.runtime.logs.libraries import level_of, set_level
from tasks.runtime.redaction.text import without_credentials
from tasks.runtime.run_origin import current_snapshot, project
from tasks.vcs.git import main_worktree

if TYPE_CHECKING:
    from dvc.repo import Repo

logger = logging.getLogger(__name__)

SITE_CACHE = "DVC_SITE_CACHE_DIR"
_set_by_us: dict[str, str] = {}
"""The folder that this process set in the environment: perhaps for another project, if one process serves several."""
LOCK_WAIT_SECONDS = 600.0
RETRY_EVERY_SECONDS = 1.0

T = TypeVar("T")


def with_repo(work: Callable[[Repo], T], doing: str, stage: str | None = None) -> T:
    """Calls `work` with the DVC repository; waits while another process holds its lock. Errors are converted to one line."""
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    is_reported = False
    while True:
        try:
            for library in ("dvc", "dvc_objects", "dvc_data"):
                set_level(logging.getLogger(library), level_of("dvc"))
            with contextlib.closing(open_repo()) as repo:
                return work(repo)
        except (DvcException, SCMError) as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise _versioning_error(error, doing, stage) from error
            if not is_reported:
                logger.warning(f"{doing}: waiting for another process that uses the same data …")
                is_reported = True
        time.sleep(RETRY_EVERY_SECONDS)


def open_repo(folder: Path | None = None) -> Repo:
    """The DVC repository of the working directory. In the folder of a run: its files, with the project's cache and remotes."""
    from dvc.repo import Repo

    _keep_hashes_private()
    folder = folder or Path.cwd()
    snapshot = current_snapshot(folder)
    if snapshot is None:
        return Repo(str(folder), config=shared_config())
    return Repo(str(folder), config=_config_of(snapshot.project, snapshot.began))


@cache
def _config_of(project: str, began: int) -> dict[str, Any]:
    """The project's DVC settings when the run began. Without git, which ignores the folder of a run."""
    from dvc.config import Config

    dvc = Path(project) / ".dvc"
    config: dict[str, Any] = {**Config(str(dvc), validate=False), **(shared_config() or {})}
    return {
        **config,
        "core": {**config.get("core", {}), "no_scm": True},
        "cache": {"dir": str(dvc / "cache"), **config.get("cache", {})},
    }


def share_hashes(source: Path, target: Path, names: list[str], began: int) -> None:
    """Copies DVC's cached hashes of files in `source` to the same files (hard links) in `target`.

    Args:
        began: start time of the run, in which the hash stores are opened once.
    """
    from dvc.exceptions import DvcException

    try:
        source_hashes, target_hashes = _hashes_of(source, began), _hashes_of(target, began)
        cached = source_hashes.get_many([str(source / name) for name in names])
        entries = dict(zip(names, (entry for _, entry in cached), strict=True))
        target_hashes.set_many([(str(target / name), entry) for name, entry in entries.items() if entry])
    except (DvcException, OSError, AttributeError, ValueError, sqlite3.Error):
        return  # DVC computes the hashes


@cache
def _hashes_of(folder: Path, began: int) -> Any:
    return open_repo(folder).state.hashes


def _keep_hashes_private() -> None:
    """DVC caches hashes in pickles (diskcache), by default below /var/tmp, where another user may place a pickle that runs code
    (CVE-2025-69872). So the cache is in a folder that only this user can write to. A folder that the user configured is kept.
    """
    configured = os.environ.get(SITE_CACHE)
    if configured not in (None, _set_by_us.get(SITE_CACHE)) or _is_configured():
        return
    folder = paths.DVC_SITE.absolute()
    if folder.exists() and not _is_ours(folder):
        folder = folder.with_name(f"{folder.name}-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        fix = f"Remove it, or name another folder: export {SITE_CACHE}=…"
        raise VersioningError("belongs to another user, whose pickles DVC would load", where=str(folder), fix=fix)
    folder.chmod(0o700)
    os.environ[SITE_CACHE] = _set_by_us[SITE_CACHE] = str(folder)


def _is_ours(folder: Path) -> bool:
    return not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()


def _is_configured() -> bool:
    """Whether a DVC configuration file sets the folder."""
    from dvc.dirs import global_config_dir, system_config_dir

    files = [Path(".dvc/config"), Path(".dvc/config.local")]
    files += [Path(folder) / "config" for folder in (global_config_dir(), system_config_dir())]
    return any("site_cache_dir" in file.read_text("utf-8", errors="replace") for file in files if file.is_file())


def shared_config() -> dict[str, Any] | None:
    """In a linked git worktree: the cache of the main worktree, and its untracked settings (`.dvc/config.local`).

    Worktrees share tags and ledger, so every worktree can get the data of every version.
    """
    from dvc.config import Config

    main = main_worktree()
    if main is None or not (main / ".dvc" / "cache").is_dir() or (project() / ".dvc/config.local").exists():
        return None
    local = Config(str(main / ".dvc"), validate=False).load_one("local")
    return {**local, "cache": {"dir": str((main / ".dvc" / "cache").resolve()), **local["cache"]}}


def use_own_cache(clone: Path) -> None:
    """Gives a clone a DVC cache of its own, which is empty, where the commit's or the user's settings name a shared one."""
    (clone / ".dvc" / "config.local").write_text("[cache]\n    dir = cache\n", encoding="utf-8")


def with_remote_errors(repo: Repo, work: Callable[[], Any]) -> None:
    """Calls `work`, which uses the remote; errors of the remote's client are converted to one line."""
    from dvc.exceptions import DvcException

    try:
        work()
    except DvcException:
        raise  # converted by with_repo
    except Exception as error:  # S3, SSH and the others each have an exception tree of their own
        reason = one_line(error) or type(error).__name__
        fix = "Fix the remote or its credentials (dvc remote list), then run again"
        what = f"the DVC remote cannot be used ({reason})"
        raise VersioningError(what, where=default_remote(repo), fix=fix) from error


REMEDIES = {
    paths.DVC_LOCK.name: "Remove it, then run again: unchanged outputs are restored from DVC's cache",
    paths.RAW_DVC.name: "Remove it, then run again: data/raw is added in its present state",
    paths.DVC_YAML.name: "Restore it: git checkout dvc.yaml",
}


def damaged_record(path: Path, error: object, revision: str | None = None) -> VersioningError:
    """The error for one of DVC's own files that cannot be read."""
    if revision is not None:
        fix = "Restore that commit from another clone, or use another version: strop history"
        return VersioningError(f"damaged ({error})", where=f"{path} of {revision}", fix=fix)
    fix = REMEDIES.get(path.name, f"Restore it: git checkout {path}")
    return VersioningError(f"damaged ({error})", where=str(path), fix=fix)


def default_remote(repo: Repo) -> str | None:
    """The name of the default remote, and its address if that is in .dvc/config (in git); without credentials, for the receipt."""
    name = repo.config["core"].get("remote")
    if not name:
        return None
    public = repo.config.load_one("repo").get("remote", {}).get(name, {}).get("url")
    url = repo.config["remote"].get(name, {}).get("url")
    return f"{name} {without_credentials(str(url))}" if public else str(name)


def _is_locked(error: BaseException) -> bool:
    from dvc.lock import LockError

    return any(isinstance(cause, LockError) for cause in causes(error))


def _versioning_error(error: BaseException, doing: str, stage: str | None) -> VersioningError:
    """DVC's error in one line, with a fix."""
    from dvc.exceptions import CheckoutError, NotDvcRepoError
    from dvc.stage.exceptions import StageCmdFailedError
    from dvc.utils.serialize import ParseError
    from dvc.utils.strictyaml import YAMLValidationError

    if on_disk := disk_error(error):
        return VersioningError(f"{doing}: {on_disk.what}", where=on_disk.where, fix=on_disk.fix)
    for cause in causes(error):
        if isinstance(cause, ParseError | YAMLValidationError):
            path = Path(str(getattr(cause, "relpath", None) or getattr(cause, "path", "")))
            return damaged_record(path, _one_line(cause))
        if isinstance(cause, StageCmdFailedError) and stage:
            return VersioningError(f"stage `{stage}` failed; the reason is printed above", fix="Fix it, then run again")
        if isinstance(cause, NotDvcRepoError):
            return VersioningError("no DVC repository", where=str(Path.cwd()), fix="Create one: dvc init")
        if isinstance(cause, CheckoutError):
            break
    if _is_locked(error):
        what = f"{doing}: another process still uses the same data"
        return VersioningError(what, fix="Stop it, or wait, then run again")
    reasons = dict.fromkeys(_one_line(cause) for cause in causes(error))  # without repetition, in order
    message = ": ".join([reason for reason in reasons if reason][:2])
    return VersioningError(f"{doing}: {message or type(error).__name__}", fix="See: dvc status; dvc doctor")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
