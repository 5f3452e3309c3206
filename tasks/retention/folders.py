"""What may be removed from `.strop`: weights that no version needs, checkpoints of earlier trainings, unused caches."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from tasks import paths
from tasks.feedback.retention import expired_segments
from tasks.retention.plan import Removal

REMOVING = ".removing-"
"""Begins the name of a folder that is being removed: after a kill, none is left half-removed under its own name."""
BATCHES = "batches"
"""In the cache of `validate`: files about batches, which `validate` removes itself."""


def weight_removals(needed: Collection[str], removable: Collection[str], unused_since: float) -> Iterator[Removal]:
    """The models in .strop/models that no needed version and no worktree uses.

    Args:
        needed: digests of weights that stay.
        removable: digests of retired versions' weights; other digests belong to no version.
    """
    for folder in _children(paths.MODELS):
        if folder.name in removable and folder.name not in needed:
            yield Removal("weights", str(folder), "the version is retired", (folder,))
        elif folder.name not in needed and _last_use(folder) < unused_since:
            yield Removal("weights", str(folder), "of no version, and unused (retention.cache_days)", (folder,))


def checkpoint_removals(kept: int) -> Iterator[Removal]:
    """The checkpoints of all but the newest interrupted trainings; those of a training in progress stay."""
    folders = [folder for folder in _children(paths.CHECKPOINTS) if folder.is_dir()]
    for folder in sorted(folders, key=_last_write, reverse=True)[kept:]:
        if not _is_locked(folder.with_name(f"{folder.name}.lock")):
            yield Removal("checkpoints", str(folder), "of an earlier training (retention.checkpoints)", (folder,))


def spool_removals(written_before: float) -> Iterator[Removal]:
    """The records of servers whose retention has ended."""
    if expired := expired_segments(paths.SPOOL, written_before):
        yield Removal("served records", str(paths.SPOOL), "older than retention.served_days", tuple(expired))


def cache_removals(unused_since: float) -> Iterator[Removal]:
    """The entries of caches that were not used for some time."""
    for cache in _caches():
        if unused := [e for e in _children(cache) if e.name != BATCHES and _last_use(e) < unused_since]:
            yield Removal("caches", str(cache), "unused (retention.cache_days)", tuple(unused))
    left = [path for folder in (paths.CACHE, paths.MODELS, paths.CHECKPOINTS) for path in folder.glob(f"{REMOVING}*")]
    left += [path for cache in _caches() for path in cache.glob(f"{REMOVING}*")]
    if left:
        yield Removal("caches", str(paths.CACHE), "an earlier `strop gc` was interrupted", tuple(sorted(left)))


def remove(path: Path) -> None:
    """Removes a file or folder, which may be gone already. A folder gets another name first."""
    if path.parent == paths.CHECKPOINTS and _is_locked(path.with_name(f"{path.name}.lock")):
        return  # a training began meanwhile
    if path.is_dir() and not path.is_symlink():
        name = path.name if path.name.startswith(REMOVING) else f"{REMOVING}{path.name}"
        doomed = path.with_name(name)
        if doomed != path:
            shutil.rmtree(doomed, ignore_errors=True)
            path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def _caches() -> tuple[Path, ...]:
    """Folders whose entries are only computed again. Not among them: bases from scratch, which versions need, and answers of a
    judge or generator, which may have cost money."""
    curated = [folder for folder in _children(paths.CURATE_CACHE) if folder.is_dir()]
    return (paths.VALIDATE_CACHE, *curated, paths.PREDICTION_CACHE, paths.SOFT_TARGETS)


def _children(folder: Path) -> list[Path]:
    children = folder.iterdir() if folder.is_dir() else ()
    return sorted(child for child in children if not child.name.startswith(REMOVING))


def _files(path: Path) -> list[Path]:
    return [path, *(file for file in path.rglob("*") if file.is_file())] if path.is_dir() else [path]


def _last_write(path: Path) -> float:
    return max(file.lstat().st_mtime for file in _files(path))


def _last_use(path: Path) -> float:
    """The time of the last write or read, where the file system records reads (of files: listing a folder counts as a read)."""
    return max(_last_write(path), *(file.lstat().st_atime for file in _files(path) if not file.is_dir()), 0.0)


def _is_locked(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(blocking=False):
            return False
    except Timeout:
        return True
