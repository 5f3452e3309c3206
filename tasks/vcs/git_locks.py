"""Stale git locks: the file `<ref>.lock` (or packed-refs.lock) of a killed git blocks every later change of the ref.

A lock is removed only if it did not change for some seconds and no git process uses this repository. If that cannot be
determined (another user's process, no /proc), the lock stays, and the error says how to remove it.
"""

from __future__ import annotations

import logging
import os
import re
import time
from itertools import pairwise
from pathlib import Path

from tasks import paths
from tasks.errors import GitError
from tasks.runtime.files import file_state

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""A running git holds the lock of a ref for milliseconds."""
POLL_SECONDS = 0.1
READERS = {"cat-file", "log", "show", "diff", "status", "blame", "fsmonitor--daemon", "credential-cache--daemon"}
"""git commands that never lock a ref, however long they run."""
WITH_VALUE = ("-C", "-c", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--config-env")
"""git's global options whose value is the next argument."""
_LOCK_MESSAGE = re.compile(r"Unable to create '(?P<path>.+?\.lock)': File exists")


def lock_in_message(message: str) -> Path | None:
    """The lock file in git's error message; None if git failed for another reason."""
    result = _LOCK_MESSAGE.search(message)
    return Path(result["path"]) if result else None


def wait_for_lock(lock: Path) -> None:
    """Returns when the lock is released, or was stale and has been removed.

    Raises:
        GitError: a git process still holds it, or that cannot be determined.
    """
    first = file_state(lock)
    until = time.monotonic() + PATIENCE_SECONDS
    while first is not None and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        now = file_state(lock)
        if now != first:
            return  # released, or taken by another process: try again
    if first is None:
        return
    remove = f"Check that no git runs here, then: rm {lock}"
    holders = git_processes_using(lock)
    if holders is None:
        what = f"locked {_age(lock)} ago by a git process that may have been killed"
        raise GitError(what, where=str(lock), fix=remove)
    if holders:
        pids = ", ".join(str(pid) for pid in holders)
        raise GitError(f"locked by git (process {pids})", where=str(lock), fix="Wait for it to end, or stop it")
    from filelock import FileLock

    # else this could remove a lock that another Strop process has just created
    with FileLock(paths.LOCKS / "stale-locks.lock"):
        if file_state(lock) != first:
            return
        age = _age(lock)
        lock.unlink()
    logger.warning(f"git: removed {lock}, a stale lock of a killed git process, {age} old")


def git_processes_using(lock: Path, processes: Path = Path("/proc")) -> list[int] | None:
    """Processes that have the lock open, and git processes that may use its repository; None if that cannot be determined."""
    if not (processes / str(os.getpid()) / "fd").is_dir() or not (processes / "1").is_dir():
        return None  # no /proc, or one that does not list other users' (hidepid=2)
    root, opened = _repository_of(lock), lock.resolve()
    result = []
    for process in processes.iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            name = (process / "comm").read_text().strip()
        except PermissionError:
            return None  # listed, but not readable (hidepid=1)
        except OSError:
            continue  # it ended
        try:
            has_it_open = any(_target(link) == opened for link in (process / "fd").iterdir())
            may_use_repository = name.startswith("git") and _may_use(root, process)
        except PermissionError:
            if name.startswith("git"):
                return None  # another user's
            continue
        except OSError:
            continue
        if has_it_open or may_use_repository:
            result.append(int(process.name))
    return sorted(result)


def _may_use(root: Path, process: Path) -> bool:
    """Whether a git process may change refs of the repository: it runs in it or in a linked worktree, or names it."""
    words = (process / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    if _command(words) in READERS:
        return False
    folder = _target(process / "cwd")
    return folder is not None and (
        folder.is_relative_to(root)
        or (folder / ".git").is_file()
        or any((folder / name).resolve().is_relative_to(root) for name in _repositories_in_command(words, process))
    )


def _command(words: list[str]) -> str:
    """The git command, such as `update-ref` in `git -C status update-ref HEAD`."""
    if (name := os.path.basename(words[0])).startswith("git-"):
        return name.removeprefix("git-")
    arguments = iter(words[1:])
    for word in arguments:
        if word in WITH_VALUE:
            next(arguments, None)
        elif not word.startswith("-"):
            return word
    return ""


def _repositories_in_command(words: list[str], process: Path) -> list[str]:
    """The repositories in the command line and environment of a git process."""
    repositories = [word.partition("=")[2] for word in words if word.startswith("--git-dir=")]
    repositories += [value for word, value in pairwise(words) if word == "--git-dir"]
    for entry in (process / "environ").read_bytes().decode("utf-8", "surrogateescape").split("\0"):
        name, _, value = entry.partition("=")
        if name in ("GIT_DIR", "GIT_COMMON_DIR"):
            repositories.append(value)
    return repositories


def _repository_of(lock: Path) -> Path:
    """The folder of the repository: the parent of its `.git`, or the bare repository itself."""
    for folder in lock.resolve().parents:
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            return folder.parent if folder.name == ".git" else folder
    return lock.parent


def _target(link: Path) -> Path | None:
    try:
        return Path(os.readlink(link))
    except PermissionError:
        raise
    except OSError:
        return None


def _age(lock: Path) -> str:
    state = file_state(lock)
    seconds = max(0, int(time.time() - state[1] / 1e9)) if state else 0
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
