"""DVC's cache as a whole: which objects exist, which are needed, and the stage outputs that its run cache knows.

with_locked_cache(worktrees, lambda cache: ...)     # no DVC command changes the cache meanwhile
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.runtime.files import link_or_copy, md5_of
from tasks.vcs.dvc_files import parse_yaml
from tasks.vcs.dvc_outputs import files_of_hash
from tasks.vcs.dvc_repo import open_repo, with_repo
from tasks.vcs.git_objects import Objects

if TYPE_CHECKING:
    from dvc.repo import Repo

T = TypeVar("T")
_HASH = re.compile(rb"\bmd5:\s*['\"]?([0-9a-f]{32}(?:\.dir)?)\b")


@dataclass(frozen=True)
class StageRun:
    """An execution of a stage in DVC's run cache."""

    stored: float
    """When, in seconds since 1970."""
    outs: dict[str, str]
    """Path → hash."""


class DvcCache:
    """The local cache of a repository."""

    def __init__(self, repo: Repo) -> None:
        self._odb: Any = repo.cache.local
        self._runs = Path(repo.stage_cache.cache_dir)

    @property
    def folder(self) -> Path:
        return Path(self._odb.path).resolve()

    def path_of(self, md5: str) -> Path:
        return Path(self._odb.oid_to_path(md5))

    def files_of(self, digest: str) -> dict[str, str]:
        """Relative path → md5 of the files with this hash; empty where the listing of a folder is not in the cache."""
        return {file.relpath: file.md5 for file in files_of_hash(self._odb, digest) or []}

    def objects_of(self, hashes: Iterable[str]) -> set[str]:
        """The objects with these hashes: of folders the listing, and every file."""
        return {md5 for digest in set(hashes) for md5 in (digest, *self.files_of(digest).values())}

    def runs(self) -> Iterator[StageRun]:
        """Every execution in the run cache. A damaged entry is skipped: DVC removes it."""
        for path in sorted(self._runs.glob("??/*/*")):
            with contextlib.suppress(ValueError, KeyError, TypeError, FileNotFoundError):
                outs = parse_yaml(path.read_bytes())["outs"]
                yield StageRun(path.stat().st_mtime, {out["path"]: str(out["md5"]) for out in outs if "md5" in out})


def with_locked_cache(worktrees: Iterable[Path], work: Callable[[DvcCache], T], doing: str) -> T:
    """Calls `work` while no DVC command in any of the worktrees, which share the cache, can change it. Waits for those that do."""
    others = [root for root in worktrees if root.resolve() != Path.cwd().resolve() and (root / ".dvc").is_dir()]

    def locked(repo: Repo) -> T:
        with contextlib.ExitStack() as stack:
            stack.enter_context(repo.lock)
            for root in others:
                other = stack.enter_context(contextlib.closing(open_repo(root)))
                stack.enter_context(other.lock)
            return work(DvcCache(repo))

    return with_repo(locked, doing)


def hashes_in_git(blobs: Iterable[str]) -> set[str]:
    """Every hash that these DVC files in git name, of dependencies too. Also of damaged files: too many hashes do no harm."""
    with Objects() as objects:
        return {digest for oid in sorted(blobs) for digest in _hashes_in(objects.read(oid, "blob").data)}


def hashes_on_disk(files: Iterable[Path]) -> set[str]:
    """The same for files on the disk."""
    return {digest for file in files for digest in _hashes_in(file.read_bytes())}


def _hashes_in(content: bytes) -> set[str]:
    return {
        match.decode() for match in _HASH.findall(content)
    }  # parsing the YAML of a thousand files would take minutes


def adopt_objects(folder: Path, digests: Iterable[str]) -> int:
    """Stores objects of another cache that this repository's cache lacks; returns how many. Damaged ones are left out.

    Args:
        folder: the other cache, such as that of a clone.
        digests: hashes of files and folders; the files of a folder are included.
    """

    def adopt(repo: Repo) -> int:
        odb: Any = repo.cache.local
        count = 0
        for digest in _with_files(folder, digests):
            source, target = _object_in(folder, digest), Path(odb.oid_to_path(digest))
            if target.exists() or not source.is_file() or md5_of(source) != digest.removesuffix(".dir"):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(source, target)
            count += 1
        return count

    return with_repo(adopt, "dvc commit")


def _with_files(folder: Path, digests: Iterable[str]) -> Iterator[str]:
    """The files of folders before their listings: a listing in the cache is complete."""
    for digest in digests:
        listing = _object_in(folder, digest)
        if digest.endswith(".dir") and listing.is_file():
            yield from (str(entry["md5"]) for entry in json.loads(listing.read_bytes()))
        yield digest


def _object_in(folder: Path, digest: str) -> Path:
    return folder / "files" / "md5" / digest[:2] / digest[2:]
