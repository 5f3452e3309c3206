"""The door to git: facts of the repository, commits, tags and refs.

    move_ref("refs/tags/tiny@v3", commit, expected=None)

The user's HEAD, index and files are never touched; a whole commit is made by tasks/workspace/snapshot_commit.py. git always runs
in the project, also from the folder of a run.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tasks.errors import GitError
from tasks.runtime.run_origin import current_snapshot, project

NOBODY = "0" * 40
"""How git writes `this ref does not exist`."""

SNAPSHOT_REF = "refs/strop-run/snapshot"
"""Not below refs/strop, which teams push: it moves with every run."""

_REDIRECTIONS = (
    *("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_SHALLOW_FILE"),
    "GIT_REPLACE_REF_BASE",
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
)
"""What leads git to another repository, or to other objects or history than the repository's own: a hook's git sets them, as
`git rev-parse --local-env-vars` lists. Settings that are given by environment (GIT_CONFIG_…) stay the user's."""


class RefMoved(GitError):
    """A ref is not where it was expected: somebody else was first."""


def require_repository() -> None:
    """Raises GitError where the project is not the root of a git repository with at least one commit."""
    top = _git("rev-parse", "--show-toplevel", may_fail=True)
    if top is None:
        raise GitError(
            "no git repository", where=str(project()), fix="Make one: git init && git add -A && git commit -m Start"
        )
    if Path(top.strip()).resolve() != project().resolve():
        raise GitError(
            f"the git repository begins above, at {top.strip()}",
            where=str(project()),
            fix="Versions are tagged in a repository of the project's own: git init && git add -A && git commit -m Start",
        )
    if resolve("HEAD") is None:
        raise GitError(
            "the repository has no commit yet", where=str(project()), fix="git add -A && git commit -m Start"
        )


def head_commit() -> str:
    """The commit that the user is on; in a run, the one that the user was on when it began."""
    snapshot = current_snapshot()
    commit = snapshot.commit if snapshot else resolve("HEAD")
    if commit is None:
        require_repository()
        raise GitError(
            "the repository has no commit yet", where=str(project()), fix="git add -A && git commit -m Start"
        )
    return commit


def main_worktree() -> Path | None:
    """The root of the main worktree, where the project is a linked one (`git worktree add`); None elsewhere."""
    if not (project() / ".git").is_file():
        return None
    first = (_git("worktree", "list", "--porcelain", may_fail=True) or "").split("\n\n")[0].splitlines()
    if not first or "bare" in first:
        return None
    root = Path(first[0].removeprefix("worktree "))
    return None if root.resolve() == project().resolve() else root


def make_commit(tree: str, message: str, parent: str | None) -> str:
    """Writes a commit object; no branch moves."""
    parents = ["-p", parent] if parent else []
    return run(
        "commit-tree", "--no-gpg-sign", tree, *parents, "-F", "-", stdin=message, environment=_identity()
    ).strip()


def keep_tree(tree: str, parent: str) -> None:
    """Keeps the snapshot of a run, and the commit that it began on, from git's garbage collection until the next run begins."""
    run("update-ref", SNAPSHOT_REF, make_commit(tree, "The inputs of a run\n", parent=parent))


def empty_tree() -> str:
    return run("mktree", stdin="").strip()


def move_ref(ref: str, new: str, expected: str | None) -> None:
    """Points `ref` at commit `new`, if it is at `expected` now (None: if it does not exist): a compare-and-swap.

    Raises:
        RefMoved: it is somewhere else.
        GitError: another git holds a lock on it, or one that was killed left a lock that may not be removed.
    """
    from tasks.vcs.git_locks import lock_named, wait_for_lock

    while True:
        try:
            run("update-ref", ref, new, expected or NOBODY)
            return
        except GitError as error:
            if resolve(ref) != expected:
                raise RefMoved("somebody else moved it first", where=ref, fix="Look again, then repeat") from error
            lock = lock_named(error.what)
            if lock is None:
                raise
            wait_for_lock(lock)


def create_tag(name: str, commit: str) -> None:
    """A tag at `commit`; made once, it is never moved.

    Raises:
        GitError: it exists and points at another commit.
    """
    make_ref(f"refs/tags/{name}", commit)


def make_ref(ref: str, commit: str) -> None:
    """A ref at `commit`; it may already stand there."""
    at = resolve(ref)
    if at is None:
        move_ref(ref, commit, expected=None)
    elif at != commit:
        raise GitError(f"already points at {at[:12]}, not at {commit[:12]}", where=ref, fix=f"See: git show {ref}")


def resolve(revision: str) -> str | None:
    """The commit that a revision names, or None where there is no such."""
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", may_fail=True)
    return found.strip() if found else None


def refs_below(*patterns: str) -> dict[str, str]:
    """Every ref that one of the patterns names (`refs/strop`, `refs/tags/tiny@v*`), and the object that it points at."""
    lines = run("for-each-ref", "--format=%(refname) %(objectname)", *patterns).splitlines()
    return dict(line.split(" ", 1) for line in lines)


def first_parents(revision: str) -> list[str]:
    """The commits of a chain, the newest first; none where one of them cannot be read."""
    listed = _git("rev-list", "--first-parent", revision, may_fail=True)
    return (listed or "").split()


def is_shallow() -> bool:
    """Whether this clone was made with a part of the history only."""
    return (_git("rev-parse", "--is-shallow-repository", may_fail=True) or "").strip() == "true"


def commits_that_changed(names: Iterable[Path]) -> list[str]:
    """Every commit that any ref leads to and that changed one of these files."""
    return run("rev-list", "--all", "--", *(str(name) for name in names)).split()


def read_at(revision: str, path: Path) -> bytes | None:
    """The bytes of a file as a commit holds it, or None where it holds none."""
    command = ["git", "cat-file", "blob", f"{revision}:{path.as_posix()}"]
    result = subprocess.run(command, capture_output=True, env=_environment(), cwd=project(), check=False)
    return result.stdout if result.returncode == 0 else None


def open_objects() -> subprocess.Popen[bytes]:
    """`git cat-file --batch`: answers a name a line with the object's bytes (tasks/vcs/git_objects.py)."""
    command = ["git", "cat-file", "--batch"]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    return subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL, env=_environment(), cwd=project())  # type: ignore[call-overload,no-any-return]


def clone_at(revision: str, folder: Path) -> None:
    """A clone of this repository in `folder`, standing at the commit, with nothing that is not in that commit."""
    commit = resolve(revision)
    if commit is None:
        raise GitError("no such revision", where=revision)
    run("clone", "--quiet", "--no-checkout", str(project()), str(folder))
    # a version's commit holds the bytes of the disk: no setting of the user's, and no .gitattributes, changes them on the way out
    attributes = folder / ".git/info/attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("* -text -ident -working-tree-encoding\n")
    # a refused candidate's commit is on no branch and in no tag: a clone does not bring it by itself
    run("-C", str(folder), "fetch", "--quiet", str(project()), *_refs_at(commit))
    run("-C", str(folder), "checkout", "--quiet", "--detach", commit)


def _refs_at(commit: str) -> list[str]:
    lines = run("for-each-ref", "--format=%(refname)", f"--contains={commit}").split()
    return lines[:1]


def _identity() -> dict[str, str]:
    """Whoever git says the user is; where it was never told, we sign."""
    environment = {}
    for key, value in (("name", "Strop"), ("email", "strop@localhost")):
        if not _git("config", f"user.{key}", may_fail=True):
            for role in ("AUTHOR", "COMMITTER"):
                if not os.environ.get(variable := f"GIT_{role}_{key.upper()}"):
                    environment[variable] = value
    return environment


def run(
    *arguments: str,
    stdin: str | None = None,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """What git prints.

    Args:
        folder: where it runs; None for the project.

    Raises:
        GitError: it failed, or is not installed.
    """
    told = _git(*arguments, stdin=stdin, environment=environment, folder=folder)
    assert told is not None
    return told


def _git(
    *arguments: str,
    stdin: str | None = None,
    environment: dict[str, str] | None = None,
    may_fail: bool = False,
    folder: Path | None = None,
) -> str | None:
    """git's standard output; None where it failed and may."""
    try:
        result = subprocess.run(
            ["git", *arguments],
            input=stdin.encode("utf-8", "surrogateescape") if stdin is not None else None,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**_environment(), **(environment or {})},
            cwd=folder or project(),
            check=False,
        )
    except FileNotFoundError as error:
        raise GitError("the command `git` is not installed", fix="Install git, then run again") from error
    if result.returncode == 0:
        return result.stdout.decode("utf-8", "surrogateescape")
    told = " ".join(result.stderr.decode("utf-8", "replace").split()).removeprefix("fatal: ")
    if "dubious ownership" in told:
        fix = f"git config --global --add safe.directory {project()}"
        raise GitError("git does not trust this folder: it belongs to another user", where=str(project()), fix=fix)
    if may_fail:
        return None
    raise GitError(f"git {arguments[0]} failed: {told or f'exit code {result.returncode}'}", where=str(project()))


def _environment() -> dict[str, str]:
    """Ours, without what would lead git elsewhere when we run inside one of its hooks.

    Messages come in English, no command refreshes the user's index on the way, and neither refs/replace/ nor grafts put one object
    or parent in another's place.
    """
    kept = {key: value for key, value in os.environ.items() if key not in _REDIRECTIONS}
    ours = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull}
    return {**kept, **ours}
