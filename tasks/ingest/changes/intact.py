"""Checks before an ingestion that data/raw is unchanged: DVC would take any other change for a new version."""

from __future__ import annotations

from tasks import paths
from tasks.ingest.batches import leftover_batches
from tasks.records.raw_bytes import (
    changed_file_error,
    changed_since,
    digest_files,
    recorded_version,
    require_batches,
    require_no_erasure,
    version_of,
)
from tasks.state.manifest import read_manifest


def require_intact() -> None:
    """Checks that raw rows were at most added since data/raw.dvc was written: an interrupted ingestion leaves whole batches.

    Raises:
        DataError: a file is missing, has changed, or belongs to no batch.
    """
    require_no_erasure()
    if not paths.MANIFEST.exists():
        return
    batches, files = read_manifest(), digest_files()
    require_batches(batches, files, leftovers=[batch.path for batch in leftover_batches(batches)])
    recorded = recorded_version()
    if recorded is None or version_of(files) == recorded:
        return
    if (name := changed_since(recorded, files)) is not None:
        raise changed_file_error(name)


def is_known_to_dvc() -> bool:
    """Whether data/raw is the version in data/raw.dvc."""
    return not paths.MANIFEST.exists() or version_of(digest_files()) == recorded_version()
