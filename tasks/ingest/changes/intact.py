"""Checks before an ingestion that data/raw is unchanged: DVC would take any other change for a new version."""

from __future__ import annotations

from tasks import paths
from tasks.ingest.batches import leftover_batches
from tasks.records import raw_bytes
from tasks.state.manifest import read_manifest


def require_intact() -> None:
    """Checks that raw rows were at most added since data/raw.dvc was written: an interrupted ingestion leaves whole batches.

    Raises:
        DataError: a file is missing, has changed, or belongs to no batch.
    """
    raw_bytes.require_no_erasure()
    if paths.MANIFEST.exists():
        batches = read_manifest()
        raw_bytes.require_intact(batches, leftovers=[batch.path for batch in leftover_batches(batches)])


def is_known_to_dvc() -> bool:
    """Whether data/raw is the version in data/raw.dvc."""
    if not paths.MANIFEST.exists():
        return True
    return raw_bytes.version_of(raw_bytes.digest_files()) == raw_bytes.recorded_version()
