"""Makes one folder equal to another by hard links or copies: only files that differ are replaced.

Files are compared by inode (links), or by size and mtime (copies). A linked file must not be written in place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path


def link_all(source: Path, target: Path) -> list[str]:
    """Makes `target` (a file or a folder) equal to `source` by hard links; files that are not in `source` are removed.

    A source that is a symbolic link, or on another file system, gets a symbolic link: hard links to it are impossible.

    Returns:
        The files that were linked, relative to `target`; an empty name if `target` is a file.
    """
    if not source.exists():
        remove(target)
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() or source.stat().st_dev != target.parent.stat().st_dev:
        link_by_name(source, target)
        return []
    return list(_make_equal(str(source), str(target), "", _is_linked, _link))


def copy_all(source: Path, target: Path, keep: Collection[str] = ()) -> list[str]:
    """As `link_all`, by copies with the same mtime; files that are only in `target` stay if they are in `keep`."""
    if not source.exists():
        remove(target)
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    return list(_make_equal(str(source), str(target), "", _is_copied, copy_file, keep))


def link_by_name(source: Path, target: Path) -> None:
    """Creates a symbolic link at `target`."""
    destination = os.path.abspath(source)
    if target.is_symlink() and os.readlink(target) == destination:
        return
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(destination)


def copy_file(source: str, target: str) -> None:
    """An atomic copy, with the mtime of the source. If it fails (the disk is full), no part of it stays."""
    temporary = f"{target}.copying"
    remove(Path(temporary))  # left by a killed run; in the folder of a run it may be a link to the project's file
    try:
        shutil.copy2(source, temporary)
        os.replace(temporary, target)
    except OSError:
        remove(Path(temporary))
        raise


def remove(path: Path) -> None:
    """Removes a file, a folder or a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make_equal(
    source: str,
    target: str,
    name: str,
    is_equal: Callable[[os.stat_result, os.stat_result], bool],
    replace: Callable[[str, str], None],
    keep: Collection[str] = (),
) -> Iterator[str]:
    """Yields the name of every file that was replaced."""
    if not os.path.isdir(source):
        if not _is_file(target) or not is_equal(os.stat(source), os.lstat(target)):
            if not _is_file(target):
                remove(Path(target))
            replace(source, target)
            yield name
        return
    if os.path.islink(target) or not os.path.isdir(target):
        remove(Path(target))
        os.mkdir(target)
    with os.scandir(target) as entries:
        old_entries = {entry.name: entry for entry in entries}
    with os.scandir(source) as entries:
        for entry in entries:
            other = old_entries.pop(entry.name, None)
            inner = f"{name}/{entry.name}" if name else entry.name
            is_file = entry.is_file() and other is not None and other.is_file(follow_symlinks=False)
            if other is not None and is_file and is_equal(entry.stat(), other.stat(follow_symlinks=False)):
                continue
            if entry.is_file() or entry.is_dir():
                yield from _make_equal(entry.path, f"{target}/{entry.name}", inner, is_equal, replace, keep)
    for rest in old_entries:
        if (f"{name}/{rest}" if name else rest) not in keep:
            remove(Path(target) / rest)


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def _is_linked(source: os.stat_result, target: os.stat_result) -> bool:
    return (source.st_ino, source.st_dev) == (target.st_ino, target.st_dev)


def _is_copied(source: os.stat_result, target: os.stat_result) -> bool:
    return (source.st_size, source.st_mtime_ns) == (target.st_size, target.st_mtime_ns)


def _link(source: str, target: str) -> None:
    temporary = f"{target}.linking"
    try:
        if os.path.lexists(temporary):  # left by a killed run
            os.unlink(temporary)
        os.link(source, temporary)
    except OSError:  # hard links are not supported, or their maximum number is reached
        copy_file(source, target)
        return
    os.replace(temporary, target)
