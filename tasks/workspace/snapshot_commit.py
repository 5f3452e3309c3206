"""A commit made beside the user's branch: all that a version needs, to be rebuilt from its tag.

    made = commit_beside("tiny: candidate 4f2a", {"data/reports/receipt.json"})

It holds the snapshot that the run works on (outside of a run: the inputs as they are now), and what the run made. The user's HEAD,
index and files are never touched, no hook runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.runtime.run_origin import Snapshot, current_snapshot, project
from tasks.vcs.git import head_commit, make_commit
from tasks.workspace.inputs import list_inputs, state_files, tree_with, write_tree


@dataclass(frozen=True)
class BesideCommit:
    commit: str
    left_out: list[str]
    """Untracked files that it does not hold."""


def snapshot_now() -> Snapshot:
    """The snapshot that the process works on; where it works in the project itself, one of the inputs as they are now."""
    if (snapshot := current_snapshot()) is not None:
        return snapshot
    inputs = list_inputs()
    root = project()
    return Snapshot(str(root), head_commit(), write_tree(inputs, root), inputs.left_out, inputs.made, 0)


def commit_beside(message: str, extra: Iterable[Path] = ()) -> BesideCommit:
    """The snapshot, what git tracks of what runs make, what a rebuild needs, and `extra`, as a child of the user's commit."""
    snapshot = snapshot_now()
    made = {*(Path(name) for name in snapshot.made), *state_files(), *extra}
    tree = tree_with(snapshot.tree, sorted(made))
    return BesideCommit(make_commit(tree, message, parent=snapshot.commit), list(snapshot.left_out))
