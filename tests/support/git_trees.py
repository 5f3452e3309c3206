"""The tree of a run's inputs, read back from the commit of a version."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tasks import paths
from tasks.vcs import git
from tasks.workspace.inputs import _entries, _is_written_by, _new_index, _update_index


def tree_of_commit(commit: str) -> str:
    """The tree of the inputs in a version's commit: as returned by `write_tree` when its run began."""
    with tempfile.TemporaryDirectory(prefix="strop-index-") as folder, _new_index() as index:
        (Path(folder) / "dvc.yaml").write_bytes(git.read_at(commit, paths.DVC_YAML) or b"")
        is_written = _is_written_by(Path(folder) / "dvc.yaml")
        git.run("read-tree", commit, environment=index)
        _update_index(index, [name for _, _, name in _entries(index) if is_written(name)], "--force-remove")
        return git.run("write-tree", environment=index).strip()
