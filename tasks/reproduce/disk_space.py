"""Whether the disk has room for a reproduction, before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.errors import DiskError
from tasks.model_store.versions import weights_folder
from tasks.reproduce.version import Version
from tasks.runtime.files import files_below

CLONE_BYTES = 200_000_000
"""Code, history and logs."""
ENVIRONMENT_BYTES = 2_500_000_000
"""An environment with torch for a CPU."""


def required_bytes(version: Version) -> int:
    """Outputs twice (a training also stores checkpoints), and copies of the other models. The base is read where it is."""
    outputs = sum(int(out.get("size") or 0) for stage in version.lock.values() for out in stage.get("outs") or ())
    folders = [weights_folder(version.model, number, digest) for digest, number in version.weights.items()]
    models = sum(file.stat().st_size for folder in folders for file in files_below(folder).values())
    return 2 * outputs + models + CLONE_BYTES


def require_space(needed: int, folder: Path, purpose: str) -> None:
    """Raises DiskError if the disk of a folder has less free space."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        what = f"{purpose} needs about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        raise DiskError(
            what, where=str(existing), fix="Free some, or use another disk: export TMPDIR=FOLDER, or --keep FOLDER"
        )
