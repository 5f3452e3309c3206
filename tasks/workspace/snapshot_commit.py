"""Creates a snapshot commit outside the user's branch: everything that is needed to rebuild a version from its tag.

    commit = make_snapshot_commit("tiny: candidate 4f2a", {"data/reports/receipt.json"})

It has the snapshot of the run (outside a run: the present inputs), and the files that the run wrote. The user's HEAD, index and
files are never changed, and no hook runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.runtime.run_origin import Snapshot, current_snapshot, project
from tasks.vcs.git import head_commit, make_commit
from tasks.workspace.inputs import list_inputs, state_files, tree_with, write_tree


def snapshot_now() -> Snapshot:
    """The snapshot that the process works on; in the project itself, a new one of the present inputs."""
    if (snapshot := current_snapshot()) is not None:
        return snapshot
    inputs = list_inputs()
    root = project()
    return Snapshot(str(root), head_commit(), write_tree(inputs, root), inputs.left_out, inputs.made, 0)


def make_snapshot_commit(message: str, extra: Iterable[Path] = ()) -> str:
    """A child of the user's commit with the snapshot, tracked files written by runs, files needed for a rebuild, and `extra`."""
    snapshot = snapshot_now()
    files = {*(Path(name) for name in snapshot.made), *state_files(), *extra}
    tree = tree_with(snapshot.tree, sorted(files))
    return make_commit(tree, message, parent=snapshot.commit)
