"""The objects in DVC's cache and remotes that contain text of erased rows.

Every parquet file in the cache is read, also those that no version references. Token arrays have no row ids, so these are
removed: arrays of each version whose dataset or rendered rows have one of the rows, and arrays that no version references. So are
prompts that quote rows other than their own: few-shot examples, passages of probes.
Rendered rows and predictions that only a remote has, and label names (labels.py), are treated alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.erase.labels import RenderedFiles, label_files_to_remove, names_any
from tasks.erase.plan import Plan
from tasks.erase.rewrite import has_text, is_parquet
from tasks.errors import VersioningError
from tasks.runtime.progress import track
from tasks.state.manifest import read_manifest
from tasks.vcs import git
from tasks.vcs.dvc_outputs import files_of_hash, output_hashes, stored_files

if TYPE_CHECKING:
    from dvc.repo import Repo

WITH_TEXT = (paths.RAW, paths.QUARANTINE / "validate", paths.QUARANTINE / "curate", paths.CURATED)
BY_VERSION = (paths.RENDERED, paths.PREDICTIONS)
TOKENS, IDS = "input_ids.npy", "ids.npy"
QUOTING = frozenset({"shots", "probe"})
"""Columns of rendered rows and predictions whose prompts quote other rows."""
OF_NO_VERSION = "(of no version)"


@dataclass(frozen=True)
class StoredObject:
    """An object in DVC's cache or remotes that contains text of the rows."""

    what: str
    """The file's path in the project, in some version."""
    md5: str
    path: Path


def fetch_texts() -> None:
    """Fetches the outputs of all versions from the remote into the cache, to read them; missing ones are ignored.

    For rendered rows and predictions only the listings: they are removed by version, without being read.
    """
    seen: set[str] = set()
    for commit in _commits():
        for path, digest in output_hashes(commit).items():
            if digest in seen or Path(path) not in (*WITH_TEXT, *BY_VERSION):
                continue
            seen.add(digest)
            try:
                stored_files(commit, Path(path), listing_only=Path(path) in BY_VERSION)
            except VersioningError as error:
                if "neither in the local cache" not in error.what:
                    raise


def objects_with_text(repo: Repo, plan: Plan) -> list[StoredObject]:
    """Every object to remove: in the local cache, or listed in a version and stored in a remote only."""
    odb = repo.cache.local
    names, by_version, labels = _referenced(odb, plan)
    names |= {md5: what for what, md5 in plan.held}
    certain = {md5 for _, md5 in plan.held} | {md5 for md5, what in names.items() if Path(what).stem in plan.images}
    objects = {md5: StoredObject(names[md5], md5, Path(odb.oid_to_path(md5))) for md5 in certain}
    files = [path for path in sorted(Path(odb.path).glob("??/*")) if path.suffix != ".dir"]
    with track("erase", len(files), "files") as progress:
        for path in files:
            md5 = path.parent.name + path.name
            is_unreferenced = md5 not in names and (
                _is_token_array(path) or _quotes_other_rows(path) or names_any(path, labels)
            )
            if is_unreferenced or has_text(path, plan):
                objects[md5] = StoredObject(names.get(md5, OF_NO_VERSION), md5, path)
            progress.advance(1)
    for md5 in by_version:
        path = Path(odb.oid_to_path(md5))
        if md5 not in objects and (not names[md5].endswith(".parquet") or not path.exists()):
            objects[md5] = StoredObject(names[md5], md5, path)
    return sorted(objects.values(), key=lambda item: (item.what, item.md5))


def datasets_with_rows(repo: Repo, plan: Plan) -> set[str]:
    """The dataset versions, of any commit and of the working tree, that have one of the rows or that cannot be read."""
    odb = repo.cache.local
    parts = {batch.part for batch in read_manifest() if batch.batch in plan.batches}
    hashes = {output_hashes(commit).get(paths.CURATED.as_posix()) for commit in [None, *_commits()]}
    datasets = set()
    for digest in hashes - {None}:
        assert digest is not None
        files = files_of_hash(odb, digest)
        if files is None or any(_has_row(file.path, plan) for file in files if file.relpath in parts):
            datasets.add(digest)
    return datasets


def _commits() -> list[str]:
    """Every commit reachable from any ref that changed an output."""
    return git.run("rev-list", "--all", "--", str(paths.DVC_LOCK), str(paths.RAW_DVC)).split()


def _referenced(odb: Any, plan: Plan) -> tuple[dict[str, str], set[str], set[str]]:
    """md5 → its path in some version; the md5 of tokens, predictions and label files of versions with one of the rows; and the
    labels that only erased rows have."""
    parts = {batch.part for batch in read_manifest() if batch.batch in plan.batches}
    names: dict[str, str] = {}
    by_version: set[str] = set()

    @cache
    def files_of(digest: str | None) -> list[tuple[str, str]]:
        return [(file.relpath, file.md5) for file in files_of_hash(odb, digest) or []] if digest else []

    has_row: dict[str, bool] = {}
    versions: list[RenderedFiles] = []
    elsewhere: set[str] = set()
    for commit in [None, *_commits()]:
        hashes = output_hashes(commit)
        for path, digest in hashes.items():
            for relpath, md5 in files_of(digest):
                names.setdefault(md5, (Path(path) / relpath).as_posix())
        curated = hashes.get(paths.CURATED.as_posix(), "")
        if curated not in has_row:
            curated_parts = [Path(odb.oid_to_path(md5)) for relpath, md5 in files_of(curated) if relpath in parts]
            has_row[curated] = any(_has_row(path, plan) for path in curated_parts)
        outputs = {md5: name for path in BY_VERSION for name, md5 in files_of(hashes.get(path.as_posix()))}
        # dataset and rendered rows of one dvc.lock may be from different runs, so both are checked
        # row ids are in ids.npy and in parquet files; test rows and predictions are not in a subfolder
        includes_row = has_row[curated] or any(
            _may_have_row(odb, md5, plan)
            for md5, name in outputs.items()
            if Path(name).name == IDS or ("/" in name and name.endswith(".parquet"))
        )
        rendered = paths.RENDERED.as_posix()
        versions.append(RenderedFiles(dict(files_of(hashes.get(rendered))), includes_row))
        elsewhere |= {md5 for path, digest in hashes.items() if path != rendered for _, md5 in files_of(digest)}
        if includes_row:
            by_version |= {
                md5 for md5, name in outputs.items() if Path(name).name == TOKENS or name.endswith(".parquet")
            }
    labels, of_labels = label_files_to_remove(odb, versions, plan)
    return names, by_version | (of_labels - elsewhere), labels


def _may_have_row(odb: Any, md5: str, plan: Plan) -> bool:
    path = Path(odb.oid_to_path(md5))
    if not path.exists() or is_parquet(path):
        return _has_row(path, plan)
    ids = np.load(path, allow_pickle=False)
    return bool(np.isin(ids, np.array([row_id.encode() for row_id in plan.ids], ids.dtype)).any())


def _has_row(path: Path, plan: Plan) -> bool:
    if not path.exists():
        return True  # erased earlier or never fetched: its tokens may contain the row
    return has_row_id(path, plan.ids)


def has_row_id(path: Path, ids: list[str]) -> bool:
    """Whether a parquet file has one of the row ids."""
    try:
        with pq.ParquetFile(path) as file:
            if "row_id" not in file.schema_arrow.names:
                return False
            row_ids = file.read(columns=["row_id"])["row_id"]
    except (OSError, pa.ArrowInvalid):
        return False
    return bool(pc.any(pc.is_in(row_ids, pa.array(ids, pa.string()))).as_py())


def _is_token_array(path: Path) -> bool:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return False
    return bool(array.ndim == 1 and array.dtype == np.int32)


def _quotes_other_rows(path: Path) -> bool:
    """Whether a parquet file has prompts with texts of rows whose ids it does not have."""
    try:
        return is_parquet(path) and not QUOTING.isdisjoint(pq.read_schema(path).names)
    except (OSError, pa.ArrowInvalid):
        return False


def remotes_of(repo: Repo) -> Iterator[tuple[str, Any]]:
    """Every DVC remote, by name."""
    for name in sorted(repo.config["remote"]):
        yield name, repo.cloud.get_remote_odb(name)
