"""The dataset of a registered version, read from DVC's cache or remote, not from the working tree."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset.read import CHANGES, read_parts, rows_of
from tasks.dataset.rendered import LEFT_OUT, read_left_out
from tasks.errors import DataError, VersioningError
from tasks.model_store.ledger import read_ledger
from tasks.model_store.versions import commit_of, initial_weights, version_receipt
from tasks.records.row import CHANGE_SCHEMA, CURATED_SCHEMA
from tasks.state.manifest import Batch, read_manifest
from tasks.vcs import git
from tasks.vcs.dvc_outputs import stored_files

NOW = "now"


@dataclass(frozen=True)
class Part:
    """A batch's rows in a dataset."""

    batch: Batch
    rows: pa.Table
    """CURATED_SCHEMA."""
    raw: Path


def registered_versions(model: str) -> list[int]:
    """The versions with a verdict, oldest first."""
    return [entry.version for entry in read_ledger(model) if entry.kind == "judged"]


def ancestors_of(model: str, version: int) -> list[int]:
    """The earlier versions that a training used: the champion it started from, teachers, reward models."""
    digests = initial_weights(version_receipt(model, version) or {})
    judged = (entry for entry in read_ledger(model) if entry.kind == "judged" and entry.version < version)
    return sorted({entry.version for entry in judged if entry.weights_digest in digests})


def parts_of(model: str, version: str) -> dict[str, Part]:
    """Batch → its rows in the dataset of a version, `v3` or `3`; or `now`, the content of data/curated.

    Raises:
        DataError: there is no such version, or its commit is missing.
        VersioningError: neither cache nor remote has its data.
    """
    if version == NOW:
        return {batch.batch: Part(batch, rows, batch.path) for batch, rows in read_parts()}
    commit = commit_at(model, version)
    files = {file.relpath: file.path for file in stored_files(commit, paths.CURATED)}
    raw = {file.relpath: file.path for file in stored_files(commit, paths.RAW)}
    removed: dict[str, list[int]] = defaultdict(list)
    for name, path in files.items():
        if name.endswith(CHANGES):
            for change in pq.read_table(path, schema=CHANGE_SCHEMA).to_pylist():
                removed[change["batch"]].append(change["index"])
    parts = {}
    for batch in read_manifest(raw[paths.MANIFEST.name]):
        if (part_path := files.get(batch.part)) is not None:
            rows = pq.read_table(part_path, schema=CURATED_SCHEMA)
            gone = pa.array(removed.get(batch.batch, []), pa.int64())
            rows = rows.filter(pc.invert(pc.is_in(rows["index"], gone)))
            parts[batch.batch] = Part(batch, rows, raw[f"{batch.source}/{batch.batch}.parquet"])
    return parts


def left_out_of(model: str, version: int, row_ids: set[str]) -> set[str]:
    """The rows of a version's dataset that were neither training nor test rows: too long, over a cap and so on. Empty for a
    version from before this was recorded, or whose rendered rows are no longer stored."""
    try:
        files = stored_files(commit_at(model, str(version)), paths.RENDERED, listing_only=True)
    except VersioningError:
        return set()
    name = LEFT_OUT.relative_to(paths.RENDERED).as_posix()
    lists = [file.path for file in files if file.relpath == name and not file.is_missing and not file.is_gone]
    return set(read_left_out(lists[0], row_ids)["row_id"].to_pylist()) if lists and row_ids else set()


def text_of(part: Part, rows: pa.Table) -> pa.Table:
    """Rows of a part (CURATED_SCHEMA) with their text (DATASET_SCHEMA)."""
    return rows_of(part.batch, rows, part.raw)


def commit_at(model: str, version: str) -> str:
    """The commit of a version.

    Raises:
        DataError: there is no such version, or its commit was not fetched.
    """
    number = version.removeprefix("v")
    fix = "See the versions: strop history"
    if not number.isdigit() or int(number) not in registered_versions(model):
        raise DataError(
            "no such version", where=f"{model} {version}", fix=f"{fix}; `{NOW}` is the content of data/curated"
        )
    commit = commit_of(model, int(number))
    if commit is None or git.resolve(commit) is None:
        raise DataError(
            "its commit is not in this repository", where=f"{model} {version}", fix="Fetch it: git fetch --tags"
        )
    return commit
