"""All worktrees of the repository, and the DVC files of every commit that a ref, a worktree or the stash reaches.

They share git's refs, the ledger and DVC's cache, so what one of them needs must not be removed from another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks import paths
from tasks.runtime.run_origin import project
from tasks.vcs import git


def worktrees() -> list[Path]:
    """The roots of all worktrees on this disk, this project's first."""
    blocks = git.run("worktree", "list", "--porcelain").split("\n\n")
    lines = [block.splitlines() for block in blocks if block.strip()]
    roots = [Path(block[0].removeprefix("worktree ")).resolve() for block in lines if "bare" not in block]
    here = project().resolve()
    return [here, *(root for root in roots if root != here and root.is_dir())]


def is_dvc_file(name: str) -> bool:
    """Whether a file names outputs in DVC's cache: dvc.lock, or NAME.dvc, in any folder."""
    file = name.rpartition("/")[2]
    return file == paths.DVC_LOCK.name or (file.endswith(".dvc") and file != ".dvc")


def dvc_blobs(without: Iterable[str]) -> set[str]:
    """The ids of all versions of all DVC files in git.

    Args:
        without: refs whose commits do not count, unless something else reaches them.
    """
    stashed = git.run("stash", "list", "--format=%H").split()
    excluded = [f"--exclude={ref}" for ref in without]
    names = [":(glob)**/*.dvc", f":(glob)**/{paths.DVC_LOCK.name}"]
    # a commit that changes no DVC file has those of its parents
    arguments = ["rev-list", "--full-history", *excluded, "--all", *stashed, "--", *names]
    blobs: set[str] = set()
    for commit in git.run(*arguments).split():
        blobs |= {oid for name, oid in _files_at(commit) if is_dvc_file(name)}
    return blobs


def dvc_files_of(worktree: Path) -> list[Path]:
    """The DVC files on the disk of a worktree, and of the folder of its last run."""
    patterns = [":(glob)**/*.dvc", f":(glob)**/{paths.DVC_LOCK.name}"]
    listed = git.run("ls-files", "-z", "--cached", "--others", "--", *patterns, folder=worktree).split("\0")
    own = [str(folder / name) for folder in (Path(), paths.WORK) for name in (paths.DVC_LOCK, paths.RAW_DVC)]
    files = (worktree / name for name in {*listed, *own} if name and is_dvc_file(name))
    return sorted(file for file in files if file.is_file())


def _files_at(commit: str) -> Iterator[tuple[str, str]]:
    for line in git.run("ls-tree", "-r", "-z", commit).split("\0"):
        if line:
            facts, name = line.split("\t", 1)
            yield name, facts.split(" ")[2]
