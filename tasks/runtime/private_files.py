"""Files that only this user can access: folders of mode 0700, files of mode 0600; files written by other users are never read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tasks.errors import StropError


def make_private_folder(folder: Path) -> None:
    """Creates the folder, or removes other users' access to it and its files.

    Raises:
        StropError: it belongs to another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_ours(folder.stat(), folder)
    folder.chmod(0o700)
    for file in folder.iterdir():
        if file.is_file() and not file.is_symlink() and file.stat().st_uid == os.geteuid():
            file.chmod(0o600)


def open_private_log(path: Path) -> int:
    """A file descriptor that appends to a log of mode 0600. Raises StropError if another user owns the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        _require_ours(os.fstat(descriptor), path)
    except StropError:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Writes the file atomically; other users can never read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_private(path: Path) -> str:
    """The content of a file that only this user can write.

    Raises:
        OSError: it does not exist, is a link, or cannot be read.
        StropError: it or its folder belongs to another user, or is writable by others.
    """
    _require_ours(path.parent.stat(), path.parent)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
        _require_ours(os.fstat(file.fileno()), path)
        return file.read()


def _require_ours(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid():
        fix = "Run as that user, or in a project folder of your own"
        raise StropError(f"belongs to another user (uid {status.st_uid})", where=str(path), fix=fix)
    if stat.S_IMODE(status.st_mode) & 0o022 and stat.S_ISREG(status.st_mode):
        raise StropError("is writable by other users", where=str(path), fix="Remove it, then run again")
