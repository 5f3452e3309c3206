"""The origin of a run's folder (.strop/work): its project and its snapshot.

A run works on a snapshot of its inputs, in a folder of its own (docs/decisions/0017-a-run-works-on-a-snapshot.md). All paths in
tasks/paths.py are valid there; git and paths that a user wrote in params.yaml are resolved in the project.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MARK = Path(".strop-run.json")
"""In the root of a run's folder; a project has no such file."""


@dataclass(frozen=True)
class Snapshot:
    """The inputs of a run at its start."""

    project: str
    """The root of the project."""
    commit: str
    """HEAD at the start of the run."""
    tree: str
    """The git tree of the inputs: the id of the snapshot."""
    left_out: tuple[str, ...]
    """Untracked files that are not in the snapshot."""
    made: tuple[str, ...]
    """Files that git tracks and that runs write: outputs, dvc.lock. They are in a version's commit, not in the snapshot."""
    began: int
    """Nanoseconds since 1970."""


def current_snapshot(folder: Path = Path()) -> Snapshot | None:
    """The snapshot that the process works on; None if it works in the project itself."""
    try:
        entry = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Snapshot(**{**entry, "left_out": tuple(entry["left_out"]), "made": tuple(entry["made"])})


def project() -> Path:
    """The root of the project, also if called in the folder of a run."""
    snapshot = current_snapshot()
    return Path(snapshot.project) if snapshot else Path.cwd()


def written_path(name: str) -> Path:
    """A user's path, relative to the project: `../models/base` does not exist from the folder of a run."""
    path = Path(name)
    if path.is_absolute() or path.exists() or (snapshot := current_snapshot()) is None:
        return path
    return Path(snapshot.project) / path
