"""The folder that a run works in (.strop/work), seen from inside: which project it belongs to, and what it was made from.

A run works on a snapshot of its inputs, in a folder of its own (docs/decisions/0017-a-run-works-on-a-snapshot.md). Every path of
tasks/paths.py means the same there; what belongs to the project as a whole (git, a path that a person wrote into params.yaml)
is looked up in the project.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MARK = Path(".strop-run.json")
"""In the root of a run's folder; a project has none."""


@dataclass(frozen=True)
class Snapshot:
    """The inputs of a run, as they were when it began."""

    project: str
    """The root of the project."""
    commit: str
    """The commit that the user was on."""
    tree: str
    """The git tree of the inputs: it names the snapshot."""
    left_out: tuple[str, ...]
    """Untracked files that are no part of it."""
    made: tuple[str, ...]
    """Files that git tracks and that runs make: outputs, dvc.lock. A version holds them, the snapshot does not."""
    began: int
    """Nanoseconds since 1970."""


def current_snapshot(folder: Path = Path()) -> Snapshot | None:
    """The snapshot that the process works on; None where it works in the project itself."""
    try:
        entry = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Snapshot(**{**entry, "left_out": tuple(entry["left_out"]), "made": tuple(entry["made"])})


def project() -> Path:
    """The root of the project, from the project itself or from the folder of a run."""
    snapshot = current_snapshot()
    return Path(snapshot.project) if snapshot else Path.cwd()


def written_path(name: str) -> Path:
    """A path as a person wrote it, relative to the project: `../models/base` is not in the folder of a run."""
    path = Path(name)
    if path.is_absolute() or path.exists() or (snapshot := current_snapshot()) is None:
        return path
    return Path(snapshot.project) / path
