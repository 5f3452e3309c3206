"""What versions held: DVC's hashes of outputs, by dvc.lock and the .dvc files, and the bytes that they stand for.

    fetch_from("tiny@v3", Path("data/model"), Path("somewhere"))

A file whose rows were erased on request is given as it now is: without them, or not at all (tasks/state/erasures.py).
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
from tasks.vcs.dvc_repo import damaged_record, default_remote, reaching, with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo


def output_hash(path: Path, revision: str | None = None) -> str | None:
    """DVC's hash of an output, by dvc.lock and the .dvc files (of a commit, if one is named); a folder's ends in `.dir`."""
    return output_hashes(revision).get(path.as_posix())


def output_hashes(revision: str | None = None) -> dict[str, str]:
    """Every output that dvc.lock and data/raw.dvc hold, by its path: now, or in a commit.

    Raises:
        VersioningError: one of them is damaged, or holds an unresolved conflict of git.
    """
    commit = git.resolve(revision) if revision else None
    if commit is None:
        return _read_hashes(revision)
    if commit not in _OF_COMMITS and (
        hashes := _read_hashes(commit)
    ):  # one that was not fetched yet may be there later
        _OF_COMMITS[commit] = hashes
    return dict(_OF_COMMITS.get(commit, {}))


_OF_COMMITS: dict[str, dict[str, str]] = {}
"""Of commits, which never change: to parse a dvc.lock takes a third of a second."""


def _read_hashes(revision: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (paths.DVC_LOCK, paths.RAW_DVC):
        here = path.read_bytes() if revision is None and path.exists() else None
        content = git.read_at(revision, path) if revision is not None else here
        if content is None:
            continue
        try:
            found |= _outs(path, parse_yaml(content))
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise damaged_record(path, error, revision) from error
    return found


def _outs(path: Path, document: dict[str, Any]) -> dict[str, str]:
    if path == paths.RAW_DVC:
        return {(path.parent / out["path"]).as_posix(): str(out["md5"]) for out in document["outs"]}
    stages = (document.get("stages") or {}).values()
    return {out["path"]: str(out["md5"]) for stage in stages for out in stage.get("outs") or []}


def dataset_version() -> str | None:
    """The dataset's version: the hash of data/curated. None before it was made."""
    return output_hash(paths.CURATED)


@dataclass(frozen=True)
class StoredFile:
    relpath: str
    """Within the output; empty where the output is a file."""
    md5: str
    """As the listing says."""
    path: Path
    """Where its bytes lie, in DVC's cache."""
    erasure: Erasure | None = None
    """Rows were erased from it since; `path` is then what stands in its place."""

    @property
    def is_gone(self) -> bool:
        """Nothing stands in its place."""
        return self.erasure is not None and not self.erasure.new

    @property
    def is_missing(self) -> bool:
        return not self.is_gone and not self.path.exists()

    @property
    def now(self) -> str:
        """md5 of the bytes that should lie there."""
        return self.erasure.new if self.erasure else self.md5


def stored_files(revision: str, path: Path, listing_only: bool = False) -> list[StoredFile]:
    """The files of an output as a commit knows them, in the local cache; what is missing there comes from the remote.

    Args:
        listing_only: only the folder's listing need be there.

    Raises:
        VersioningError: the commit knows no such output, or neither cache nor remote has it.
    """
    commit = git.resolve(revision)
    digest = output_hash(path, commit) if commit else None
    if commit is None or digest is None:
        raise VersioningError(f"holds no {path}", where=revision, fix="See the versions: strop history")

    def look(repo: Repo) -> list[StoredFile]:
        odb = repo.cache.local
        wanted = listed(odb, digest)
        if wanted is None:
            _fetch(repo, [digest])
            wanted = listed(odb, digest)
        if listing_only and wanted is not None:
            return wanted
        _fetch(repo, [file.now for file in wanted or [] if file.is_missing])
        if wanted is None or any(file.is_missing for file in wanted):
            fix = "Set a DVC remote that has it: dvc remote add --default NAME URL"
            raise VersioningError(f"{path} of {revision} is neither in the local cache nor in a remote", fix=fix)
        return wanted

    return with_repo(look, f"dvc get {path}")


def held_outputs(revision: str) -> dict[str, list[StoredFile] | None]:
    """Every output that a commit knows, with its files in the local cache, of which some may be missing; None where not even
    the folder's listing is there. Nothing is fetched."""
    hashes = output_hashes(revision)

    def look(repo: Repo) -> dict[str, list[StoredFile] | None]:
        return {path: listed(repo.cache.local, digest) for path, digest in sorted(hashes.items())}

    return with_repo(look, "dvc get")


def fetch_from(revision: str, path: Path, target: Path) -> None:
    """Puts an output as a commit knows it (a tag, a ref) at `target`, which must not exist; hard links where possible."""
    files = stored_files(revision, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    for file in files:
        if not file.is_gone:
            link_or_copy(file.path, beside / file.relpath if file.relpath else beside)
    if not files:
        beside.mkdir()
    beside.replace(target)  # whole or not at all


def listed(odb: Any, digest: str) -> list[StoredFile] | None:
    """What a hash stands for; None where a folder's listing is not in the cache."""
    place = Path(odb.oid_to_path(digest))
    erased = replacements(read_erasures())

    def stored(relpath: str, md5: str) -> StoredFile:
        erasure = erased.get(md5)
        return StoredFile(relpath, md5, Path(odb.oid_to_path((erasure and erasure.new) or md5)), erasure)

    if not digest.endswith(".dir"):
        return [stored("", digest)]
    if not place.exists():
        return None
    try:
        return [stored(entry["relpath"], entry["md5"]) for entry in json.loads(place.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise VersioningError(
            "damaged: not a folder's listing", where=str(place), fix="Remove it, then run again"
        ) from error


def _fetch(repo: Repo, digests: Iterable[str]) -> None:
    """From the remote into the cache, whatever of it is there; silent where there is no remote, as the caller looks again.

    By hash, not by `dvc fetch --rev`: that goes by the remotes that the commit's own .dvc/config names.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    wanted = [HashInfo("md5", digest) for digest in digests]
    if wanted and default_remote(repo):
        reaching(repo, lambda: repo.cloud.pull(wanted))
