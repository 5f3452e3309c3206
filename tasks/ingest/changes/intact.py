"""Before anything is collected: are the rows that were collected earlier still what they were? Otherwise DVC would take what
somebody wrote into data/raw for a new version of it.
"""

from __future__ import annotations

from tasks import paths
from tasks.ingest.batches import leftover_batches
from tasks.records.raw_bytes import (
    changed_file,
    changed_since,
    look,
    recorded_version,
    require_batches,
    require_no_erasure,
    version_of,
)
from tasks.state.manifest import read_manifest


def require_intact() -> None:
    """Raw rows may only have grown since data/raw.dvc was written: an ingestion that was interrupted leaves whole batches.

    Raises:
        DataError: a file is missing, has changed, or belongs to no batch; the line names it.
    """
    require_no_erasure()
    if not paths.MANIFEST.exists():
        return
    batches, seen = read_manifest(), look()
    require_batches(batches, seen, but=[batch.path for batch in leftover_batches(batches)])
    recorded = recorded_version()
    if recorded is None or version_of(seen) == recorded:
        return
    if (name := changed_since(recorded, seen)) is not None:
        raise changed_file(name)


def is_known_to_dvc() -> bool:
    """Is data/raw, as it now is, what data/raw.dvc names?"""
    return not paths.MANIFEST.exists() or version_of(look()) == recorded_version()
