"""Which objects in DVC's cache may be removed: model, rendered rows and predictions of retired versions, and of trainings that
never became a version.

Only objects that Strop's own stages wrote are ever removed, so nothing that a user added by `dvc add` and no raw row. An object
that anything else names stays: another commit, a worktree, an erasure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks import paths
from tasks.retention.plan import Removal
from tasks.state.erasures import Erasure, read_erasures
from tasks.vcs.dvc_cache import DvcCache, hashes_in_git, hashes_on_disk
from tasks.vcs.dvc_outputs import output_hashes
from tasks.vcs.git_worktrees import dvc_blobs, dvc_files_of

REMOVABLE = (paths.MODEL, paths.RENDERED, paths.PREDICTIONS)
"""The outputs that a version can do without: `strop reproduce V` makes them again from its raw rows."""


@dataclass(frozen=True)
class RetiredCommit:
    version: int
    commit: str
    refs: tuple[str, ...]
    """The refs that keep the commit in git."""


def removable_objects(
    candidates: Mapping[str, Collection[str]], needed: Collection[str], erasures: Iterable[Erasure]
) -> dict[str, set[str]]:
    """What → the objects that may be removed: those that nothing needs. Each object is named once.

    Args:
        candidates: what → the objects of its removable outputs.
    """
    erased = {md5 for erasure in erasures for md5 in (erasure.old, erasure.new)}
    taken = {*needed, *erased}
    result: dict[str, set[str]] = {}
    for what, objects in candidates.items():
        result[what] = {md5 for md5 in objects if md5 not in taken and not md5.endswith(".dir")}
        taken |= result[what]
    return result


def object_removals(
    cache: DvcCache, retired: list[RetiredCommit], why: str, worktrees: Iterable[Path], unused_since: float
) -> list[Removal]:
    """The removals from DVC's cache.

    Args:
        why: the reason of the retirements.
    """
    candidates: dict[str, set[str]] = {}
    reasons: dict[str, str] = {}
    needed = _needed_hashes(retired, worktrees)
    for subject in retired:
        hashes = output_hashes(subject.commit)
        for path in REMOVABLE:
            if digest := hashes.pop(path.as_posix(), None):
                what = f"{path} of v{subject.version}"
                candidates[what] = {*cache.files_of(digest).values()}
                reasons[what] = why
        needed |= {*hashes.values()}
    for run in cache.runs():
        if run.stored < unused_since:
            for path in REMOVABLE:
                if digest := run.outs.get(path.as_posix()):
                    what = f"{path} of no version"
                    candidates.setdefault(what, set()).update(cache.files_of(digest).values())
                    reasons[what] = "its training never became a version (retention.cache_days)"
    removals = []
    for what, objects in removable_objects(candidates, cache.objects_of(needed), read_erasures()).items():
        files = tuple(sorted(path for md5 in objects if (path := cache.path_of(md5)).exists()))
        if files:
            removals.append(Removal("stage outputs", what, reasons[what], files))
    return removals


def _needed_hashes(retired: list[RetiredCommit], worktrees: Iterable[Path]) -> set[str]:
    """The hashes of all outputs that a commit names, other than those of retired versions, or a file of a worktree."""
    blobs = dvc_blobs(without=[ref for subject in retired for ref in subject.refs])
    return hashes_in_git(blobs) | hashes_on_disk(file for root in worktrees for file in dvc_files_of(root))
