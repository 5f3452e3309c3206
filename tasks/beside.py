"""A commit made beside the user's branch: all that a version needs, to be rebuilt from its tag.

    made = commit_beside("tiny: candidate 4f2a", {"data/reports/receipt.json"})

It is built in a temporary index: the user's HEAD, index and files are never touched, no hook runs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks import paths
from tasks.git import head_commit, make_commit, run

OURS = ("flows", "tasks", str(paths.CONTRACT.parent), str(paths.TEMPLATES))
"""Folders whose untracked files are part of a version too, unless git ignores them."""

NEEDED = (paths.DVC_YAML, paths.DVC_LOCK, paths.PARAMS, paths.CONSTRAINTS, paths.ROUND, paths.START, paths.BASE,
          paths.DECISIONS, paths.ERASURES, Path(".dvcignore"), Path(".dvc/config"), Path(".dvc/.gitignore"))  # fmt: skip
"""Files that a version cannot be rebuilt without: stored even where git ignores them."""


@dataclass(frozen=True)
class BesideCommit:
    commit: str
    left_out: list[str]
    """Untracked files that it does not hold."""


def files_left_out() -> list[str]:
    """Untracked files that a commit beside would not hold: neither ignored, nor ours, nor needed."""
    kept = {str(path) for path in _needed()}
    return [name for name in _untracked() if name not in kept and not _is_ours(name)]


def commit_beside(message: str, extra: Iterable[Path] = ()) -> BesideCommit:
    """HEAD's tree with tracked changes, our untracked files, what a rebuild needs, and `extra`, as a child of HEAD."""
    head = head_commit()
    left_out = files_left_out()
    ours = [name for name in _untracked() if _is_ours(name) and not name.endswith("/")]
    with tempfile.TemporaryDirectory(prefix="strop-index-") as folder:
        index = Path(folder) / "index"
        users = Path(run("rev-parse", "--git-path", "index").strip())
        environment = {"GIT_INDEX_FILE": str(index)}
        if users.exists():
            shutil.copyfile(users, index)  # with what git knows of each file's time and size, so nothing is hashed anew
        else:
            run("read-tree", head, environment=environment)
        run("add", "--update", "--", ".", environment=environment)
        _add(ours, environment)
        _add([str(path) for path in (*_needed(), *extra) if path.exists()], environment, "--force")
        tree = run("write-tree", environment=environment).strip()
    return BesideCommit(make_commit(tree, message, parent=head), left_out)


def _needed() -> list[Path]:
    return [path for path in (*NEEDED, *sorted(paths.DATA.glob("*.dvc"))) if path.is_file()]


def _is_ours(name: str) -> bool:
    return any(name.startswith(f"{folder}/") for folder in OURS)


def _untracked() -> list[str]:
    return [name for name in run("ls-files", "--others", "--exclude-standard", "-z").split("\0") if name]


def _add(names: list[str], environment: dict[str, str], *flags: str) -> None:
    if names:
        listed = "\0".join(f":(literal){name}" for name in names)
        run("add", *flags, "--pathspec-from-file=-", "--pathspec-file-nul", stdin=listed, environment=environment)
