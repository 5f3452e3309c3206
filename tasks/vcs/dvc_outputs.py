"""The outputs of each version: DVC's hashes from dvc.lock and the .dvc files, and the files with these hashes.

    fetch_from("tiny@v3", Path("data/model"), Path("somewhere"))

A file from which rows were erased on request is returned in its present state: without the rows, or not at all
(tasks/state/erasures.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.errors import VersioningError
from tasks.runtime.files import link_or_copy
from tasks.state.erasures import Erasure, read_erasures, replacements
from tasks.vcs import git
from tasks.vcs.dvc_files import parse_yaml
from tasks.vcs.dvc_repo import damaged_record, default_remote, with_remote_errors, with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo


def output_hash(path: Path, revision: str | None = None) -> str | None:
    """DVC's hash of an output, from dvc.lock and the .dvc files (of a commit, if given). The hash of a folder ends in `.dir`."""
    return output_hashes(revision).get(path.as_posix())


def output_hashes(revision: str | None = None) -> dict[str, str]:
    """Output path → hash, from dvc.lock and data/raw.dvc: in the working tree, or in a commit.

    Raises:
        VersioningError: a file is damaged, or has an unresolved merge conflict.
    """
    commit = git.resolve(revision) if revision else None
    if commit is None:
        return _read_hashes(revision)
    # an empty result is not cached: the commit may be fetched later
    if commit not in _HASHES_OF_COMMITS and (hashes := _read_hashes(commit)):
        _HASHES_OF_COMMITS[commit] = hashes
    return dict(_HASHES_OF_COMMITS.get(commit, {}))


_HASHES_OF_COMMITS: dict[str, dict[str, str]] = {}
"""Cached per commit, which never changes: parsing a dvc.lock takes a third of a second."""


def _read_hashes(revision: str | None) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for path in (paths.DVC_LOCK, paths.RAW_DVC):
        local = path.read_bytes() if revision is None and path.exists() else None
        content = git.read_at(revision, path) if revision is not None else local
        if content is None:
            continue
        try:
            hashes |= _outs(path, parse_yaml(content))
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise damaged_record(path, error, revision) from error
    return hashes


def _outs(path: Path, document: dict[str, Any]) -> dict[str, str]:
    if path == paths.RAW_DVC:
        return {(path.parent / out["path"]).as_posix(): str(out["md5"]) for out in document["outs"]}
    stages = (document.get("stages") or {}).values()
    return {out["path"]: str(out["md5"]) for stage in stages for out in stage.get("outs") or []}


def dataset_version() -> str | None:
    """The version of the dataset: the hash of data/curated. None if there is no dataset yet."""
    return output_hash(paths.CURATED)


@dataclass(frozen=True)
class StoredFile:
    relpath: str
    """Path within the output; empty if the output is a file."""
    md5: str
    """From the folder's listing."""
    path: Path
    """Its path in DVC's cache."""
    erasure: Erasure | None = None
    """Set if rows were erased from the file later; `path` is then the file that replaced it."""

    @property
    def is_gone(self) -> bool:
        """Erased, and replaced by nothing."""
        return self.erasure is not None and not self.erasure.new

    @property
    def is_missing(self) -> bool:
        return not self.is_gone and not self.path.exists()

    @property
    def current_md5(self) -> str:
        """md5 of the content expected at `path`."""
        return self.erasure.new if self.erasure else self.md5


def stored_files(revision: str, path: Path, listing_only: bool = False) -> list[StoredFile]:
    """The files of an output at a commit, in the local cache; missing files are fetched from the remote.

    Args:
        listing_only: fetch only the folder's listing, not its files.

    Raises:
        VersioningError: the commit has no such output, or neither cache nor remote has it.
    """
    commit = git.resolve(revision)
    digest = output_hash(path, commit) if commit else None
    if commit is None or digest is None:
        raise VersioningError(f"has no {path}", where=revision, fix="See the versions: strop history")

    def find_files(repo: Repo) -> list[StoredFile]:
        odb = repo.cache.local
        files = files_of_hash(odb, digest)
        if files is None:
            _fetch(repo, [digest])
            files = files_of_hash(odb, digest)
        if listing_only and files is not None:
            return files
        _fetch(repo, [file.current_md5 for file in files or [] if file.is_missing])
        if files is None or any(file.is_missing for file in files):
            fix = (
                "Set a DVC remote that has it: dvc remote add --default NAME URL; "
                "`strop history` has the versions that `strop gc` retired"
            )
            what = f"{path} of {revision} is neither in the local cache nor in a remote"
            raise VersioningError(what + _missing_objects(digest, files), fix=fix)
        return files

    return with_repo(find_files, f"dvc get {path}")


def _missing_objects(digest: str, files: list[StoredFile] | None) -> str:
    """The first missing object and its path, and how many others are missing."""
    if files is None:
        return f" (object {digest}, the listing of the folder)"
    missing = [file for file in files if file.is_missing]
    more = f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    name = f"{missing[0].relpath}, " if missing[0].relpath else ""
    return f" ({name}object {missing[0].current_md5}{more})"


def outputs_in_cache(revision: str) -> dict[str, list[StoredFile] | None]:
    """Every output of a commit, with its files in the local cache. Files may be missing; None if the folder's listing is missing.
    Nothing is fetched."""
    hashes = output_hashes(revision)

    def find_files(repo: Repo) -> dict[str, list[StoredFile] | None]:
        return {path: files_of_hash(repo.cache.local, digest) for path, digest in sorted(hashes.items())}

    return with_repo(find_files, "dvc get")


def path_in_cache(digest: str) -> Path:
    """The path of an object in the local cache, which may lack it."""
    return with_repo(lambda repo: Path(repo.cache.local.oid_to_path(digest)), "dvc get")


def fetch_from(revision: str, path: Path, target: Path) -> None:
    """Copies an output of a commit, tag or ref to `target`, which must not exist; hard links where possible."""
    files = stored_files(revision, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    for file in files:
        if not file.is_gone:
            link_or_copy(file.path, temporary / file.relpath if file.relpath else temporary)
    if not files:
        temporary.mkdir()
    temporary.replace(target)  # atomic: complete or not at all


def files_of_hash(odb: Any, digest: str) -> list[StoredFile] | None:
    """The files with this hash; None if the listing of a folder is not in the cache."""
    listing = Path(odb.oid_to_path(digest))
    erased = replacements(read_erasures())

    def stored(relpath: str, md5: str) -> StoredFile:
        erasure = erased.get(md5)
        return StoredFile(relpath, md5, Path(odb.oid_to_path((erasure and erasure.new) or md5)), erasure)

    if not digest.endswith(".dir"):
        return [stored("", digest)]
    if not listing.exists():
        return None
    try:
        return [stored(entry["relpath"], entry["md5"]) for entry in json.loads(listing.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        what = "damaged: not a folder's listing"
        raise VersioningError(what, where=str(listing), fix="Remove it, then run again") from error


def _fetch(repo: Repo, digests: Iterable[str]) -> None:
    """Fetches what the remote has into the cache. Does nothing without a remote: the caller checks the cache again.

    By hash, not by `dvc fetch --rev`, which uses the remotes in the commit's own .dvc/config.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    hashes = [HashInfo("md5", digest) for digest in digests]
    if hashes and default_remote(repo):
        with_remote_errors(repo, lambda: repo.cloud.pull(hashes))
