"""Locks that git left behind: the file `<ref>.lock` (or packed-refs.lock) of a killed git stops every later change of the ref.

A lock goes only if it did not change for some seconds and no git works in this repository any more. Where that cannot be
known (another user's process, no /proc), it stays, and the error names what to remove.
"""

from __future__ import annotations

import os
import re
import sys
import time
from itertools import pairwise
from pathlib import Path

from tasks import paths
from tasks.errors import GitError

PATIENCE_SECONDS = 5.0
"""A git that lives holds a lock of a ref for milliseconds."""
LOOK_EVERY_SECONDS = 0.1
READERS = {"cat-file", "log", "show", "diff", "status", "blame", "fsmonitor--daemon", "credential-cache--daemon"}
"""Commands of git that hold no lock of a ref, however long they run."""
WITH_VALUE = ("-C", "-c", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--config-env")
"""Options of git itself whose value is a word of its own."""
_NAMED = re.compile(r"Unable to create '(?P<path>.+?\.lock)': File exists")


def lock_named(message: str) -> Path | None:
    """The lock that git's refusal names; None where it refused for another reason."""
    result = _NAMED.search(message)
    return Path(result["path"]) if result else None


def wait_for_lock(lock: Path) -> None:
    """Returns when the lock is gone: its git ended, or it was left by one that was killed, and was removed.

    Raises:
        GitError: a git is still at it, or nobody can know.
    """
    seen = _stamp(lock)
    until = time.monotonic() + PATIENCE_SECONDS
    while seen is not None and time.monotonic() < until:
        time.sleep(LOOK_EVERY_SECONDS)
        now = _stamp(lock)
        if now != seen:
            return  # it is another's by now, or gone: try again
    if seen is None:
        return
    remove = f"See that no git runs here, then: rm {lock}"
    holders = gits_at_work(lock)
    if holders is None:
        what = f"locked since {_ago(lock)} by a git that may have been killed"
        raise GitError(what, where=str(lock), fix=remove)
    if holders:
        pids = ", ".join(str(pid) for pid in holders)
        raise GitError(f"locked by git (process {pids})", where=str(lock), fix="Wait for it to end, or end it")
    from filelock import FileLock

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.LOCKS / "stale-locks.lock"):  # or the one that another of ours made by then would go
        if _stamp(lock) != seen:
            return
        age = _ago(lock)
        lock.unlink()
    print(f"git: removed {lock}, which a git that was killed had left {age} ago", file=sys.stderr, flush=True)


def gits_at_work(lock: Path, processes: Path = Path("/proc")) -> list[int] | None:
    """The processes that have the lock open, and every git that may work in its repository; None where it cannot be known."""
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
            return None  # listed, and closed (hidepid=1)
        except OSError:
            continue  # it ended
        try:
            has_it_open = any(_target(link) == opened for link in (process / "fd").iterdir())
            works_here = name.startswith("git") and _may_work_in(root, process)
        except PermissionError:
            if name.startswith("git"):
                return None  # another user's
            continue
        except OSError:
            continue
        if has_it_open or works_here:
            result.append(int(process.name))
    return sorted(result)


def _may_work_in(root: Path, process: Path) -> bool:
    """Whether a git may change refs of the repository: it stands in it, in a linked worktree, or was given it by name."""
    words = (process / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    if _command(words) in READERS:
        return False
    place = _target(process / "cwd")
    return place is not None and (
        place.is_relative_to(root)
        or (place / ".git").is_file()
        or any((place / name).resolve().is_relative_to(root) for name in _repositories_named(words, process))
    )


def _command(words: list[str]) -> str:
    """`update-ref` of `git -C status update-ref HEAD`."""
    if (name := os.path.basename(words[0])).startswith("git-"):
        return name.removeprefix("git-")
    given = iter(words[1:])
    for word in given:
        if word in WITH_VALUE:
            next(given, None)
        elif not word.startswith("-"):
            return word
    return ""


def _repositories_named(words: list[str], process: Path) -> list[str]:
    """What a git's command line or environment names as its repository."""
    named = [word.partition("=")[2] for word in words if word.startswith("--git-dir=")]
    named += [value for word, value in pairwise(words) if word == "--git-dir"]
    for entry in (process / "environ").read_bytes().decode("utf-8", "surrogateescape").split("\0"):
        name, _, value = entry.partition("=")
        if name in ("GIT_DIR", "GIT_COMMON_DIR"):
            named.append(value)
    return named


def _repository_of(lock: Path) -> Path:
    """The folder that the repository is in: above its `.git`, or the bare repository itself."""
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


def _stamp(lock: Path) -> tuple[int, int, int] | None:
    try:
        status = lock.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _ago(lock: Path) -> str:
    stamp = _stamp(lock)
    seconds = max(0, int(time.time() - stamp[1] / 1e9)) if stamp else 0
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
