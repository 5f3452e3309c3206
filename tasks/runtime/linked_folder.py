"""One folder made equal to another by hard links or copies: only what differs is touched.

Files are told apart by inode (links), or by size and time (copies). Nobody may write into a linked file in place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path


def link_all(source: Path, target: Path) -> list[str]:
    """Makes `target` (a file or a folder) equal to `source` by hard links; what is not in `source` goes.

    A source that is a link, or on another file system, is linked to by name: its files cannot be linked to.

    Returns:
        The files that were linked now, relative to `target`; an empty name where it is a file itself.
    """
    if not source.exists():
        remove(target)
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() or source.stat().st_dev != target.parent.stat().st_dev:
        link_by_name(source, target)
        return []
    return list(_make_equal(str(source), str(target), "", _is_linked, _link))


def copy_all(source: Path, target: Path, but: Collection[str] = ()) -> list[str]:
    """As `link_all` by copies, with their times; what is only in `target` stays if it is named in `but`."""
    if not source.exists():
        remove(target)
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    return list(_make_equal(str(source), str(target), "", _is_copied, copy_file, but))


def link_by_name(source: Path, target: Path) -> None:
    """A symbolic link at `target`."""
    place = os.path.abspath(source)
    if target.is_symlink() and os.readlink(target) == place:
        return
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(place)


def copy_file(source: str, target: str) -> None:
    """A copy that takes its place whole, with the time of the source. Where there is no room, nothing of it stays."""
    temporary = f"{target}.copying"
    remove(Path(temporary))  # of a run that was killed; in the folder of a run it may be a link to the project's
    try:
        shutil.copy2(source, temporary)
        os.replace(temporary, target)
    except OSError:
        remove(Path(temporary))
        raise


def remove(path: Path) -> None:
    """Removes whatever is there: a file, a folder, a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make_equal(
    source: str,
    target: str,
    name: str,
    is_equal: Callable[[os.stat_result, os.stat_result], bool],
    put: Callable[[str, str], None],
    but: Collection[str] = (),
) -> Iterator[str]:
    """Yields the name of every file that was put."""
    if not os.path.isdir(source):
        if not _is_file(target) or not is_equal(os.stat(source), os.lstat(target)):
            if not _is_file(target):
                remove(Path(target))
            put(source, target)
            yield name
        return
    if os.path.islink(target) or not os.path.isdir(target):
        remove(Path(target))
        os.mkdir(target)
    with os.scandir(target) as entries:
        there = {entry.name: entry for entry in entries}
    with os.scandir(source) as entries:
        for entry in entries:
            other = there.pop(entry.name, None)
            inner = f"{name}/{entry.name}" if name else entry.name
            is_file = entry.is_file() and other is not None and other.is_file(follow_symlinks=False)
            if other is not None and is_file and is_equal(entry.stat(), other.stat(follow_symlinks=False)):
                continue
            if entry.is_file() or entry.is_dir():
                yield from _make_equal(entry.path, f"{target}/{entry.name}", inner, is_equal, put, but)
    for left in there:
        if (f"{name}/{left}" if name else left) not in but:
            remove(Path(target) / left)


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def _is_linked(source: os.stat_result, target: os.stat_result) -> bool:
    return (source.st_ino, source.st_dev) == (target.st_ino, target.st_dev)


def _is_copied(source: os.stat_result, target: os.stat_result) -> bool:
    return (source.st_size, source.st_mtime_ns) == (target.st_size, target.st_mtime_ns)


def _link(source: str, target: str) -> None:
    temporary = f"{target}.linking"
    try:
        if os.path.lexists(temporary):  # of a run that was killed
            os.unlink(temporary)
        os.link(source, temporary)
    except OSError:  # no links here, or no more of them
        copy_file(source, target)
        return
    os.replace(temporary, target)
