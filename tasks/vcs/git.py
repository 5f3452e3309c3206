"""git commands: the state of the repository, commits, tags and refs.

    move_ref("refs/tags/tiny@v3", commit, expected=None)

The user's HEAD, index and files are never changed; a snapshot commit is made by tasks/workspace/snapshot_commit.py. git always runs
in the project, also if called from the folder of a run.
"""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

from tasks.errors import GitError
from tasks.runtime.run_origin import current_snapshot, project

logger = logging.getLogger(__name__)

NO_COMMIT = "0" * 40
"""git's notation for `this ref does not exist`."""

SNAPSHOT_REF = "refs/strop-run/snapshot"
"""Not below refs/strop, which teams push: it changes with every run."""

_REDIRECTIONS = (
    *("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_SHALLOW_FILE"),
    "GIT_REPLACE_REF_BASE",
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
)
"""Variables that make git use another repository, other objects or another history. git sets them for its hooks (listed by
`git rev-parse --local-env-vars`). Settings in the environment (GIT_CONFIG_…) are the user's and stay."""


class RefMoved(GitError):
    """A ref does not point at the expected commit: another process moved it first."""


def require_repository() -> None:
    """Raises GitError if the project is not the root of a git repository with at least one commit."""
    top = _git("rev-parse", "--show-toplevel", may_fail=True)
    fix = "git add -A && git commit -m Start"
    if top is None:
        what, fix = "no git repository", f"Create one: git init && {fix}"
    elif Path(top.strip()).resolve() != project().resolve():
        what = f"the root of the git repository is a parent folder, {top.strip()}"
        fix = f"A project needs a repository of its own: git init && {fix}"
    elif resolve("HEAD") is None:
        what = "the repository has no commit yet"
    else:
        return
    raise GitError(what, where=str(project()), fix=fix)


def head_commit() -> str:
    """The commit at HEAD; in a run, the commit at HEAD when the run began."""
    snapshot = current_snapshot()
    commit = snapshot.commit if snapshot else resolve("HEAD")
    if commit is None:
        require_repository()
        raise AssertionError("require_repository raises where there is no commit")
    return commit


def main_worktree() -> Path | None:
    """The root of the main worktree if the project is a linked one (`git worktree add`); else None."""
    if not (project() / ".git").is_file():
        return None
    first = (_git("worktree", "list", "--porcelain", may_fail=True) or "").split("\n\n")[0].splitlines()
    if not first or "bare" in first:
        return None
    root = Path(first[0].removeprefix("worktree "))
    return None if root.resolve() == project().resolve() else root


def make_commit(tree: str, message: str, parent: str | None) -> str:
    """Writes a commit object; no branch moves."""
    command = ["commit-tree", "--no-gpg-sign", tree, *(["-p", parent] if parent else []), "-F", "-"]
    return run(*command, stdin=message, environment=_identity()).strip()


def keep_tree(tree: str, parent: str) -> None:
    """Protects the snapshot of a run, and its parent commit, from git's garbage collection until the next run begins."""
    run("update-ref", SNAPSHOT_REF, make_commit(tree, "The inputs of a run\n", parent=parent))


def move_ref(ref: str, new: str, expected: str | None) -> None:
    """Points `ref` at commit `new` if it points at `expected` (None: if it does not exist): a compare-and-swap.

    Raises:
        RefMoved: it points at another commit.
        GitError: another git process holds its lock, or a killed one left a lock that cannot be removed safely.
    """
    from tasks.vcs.git_locks import lock_in_message, wait_for_lock

    while True:
        try:
            run("update-ref", ref, new, expected or NO_COMMIT)
            return
        except GitError as error:
            if resolve(ref) != expected:
                fix = "Check its new value, then repeat"
                raise RefMoved("another process moved it first", where=ref, fix=fix) from error
            lock = lock_in_message(error.what)
            if lock is None:
                raise
            wait_for_lock(lock)


def make_ref(ref: str, commit: str) -> None:
    """Creates a ref, such as a tag, at `commit`; it may already point there, but is never moved.

    Raises:
        GitError: it points at another commit.
    """
    current = resolve(ref)
    if current is None:
        move_ref(ref, commit, expected=None)
    elif current != commit:
        raise GitError(f"already points at {current[:12]}, not at {commit[:12]}", where=ref, fix=f"See: git show {ref}")


def remove_ref(ref: str) -> None:
    """Removes a ref, which may not exist."""
    run("update-ref", "-d", ref)


def resolve(revision: str) -> str | None:
    """The commit of a revision, or None if it does not exist."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", may_fail=True)
    return commit.strip() if commit else None


def refs_below(*patterns: str) -> dict[str, str]:
    """Ref → object id, of every ref that matches a pattern (`refs/strop`, `refs/tags/tiny@v*`); none without a pattern."""
    if not patterns:
        return {}  # git would list every ref
    lines = run("for-each-ref", "--format=%(refname) %(objectname)", *patterns).splitlines()
    return dict(line.split(" ", 1) for line in lines)


def first_parents(revision: str) -> list[str]:
    """The commits of a chain, newest first; empty if one of them cannot be read."""
    commits = _git("rev-list", "--first-parent", revision, may_fail=True)
    return (commits or "").split()


def read_at(revision: str, path: Path) -> bytes | None:
    """The content of a file in a commit, or None if the commit has no such file."""
    command = ["git", "cat-file", "blob", f"{revision}:{path.as_posix()}"]
    result = subprocess.run(command, capture_output=True, env=_environment(), cwd=project(), check=False)
    return result.stdout if result.returncode == 0 else None


def open_objects() -> subprocess.Popen[bytes]:
    """`git cat-file --batch`: reads one name per line, writes the object (tasks/vcs/git_objects.py)."""
    command = ["git", "cat-file", "--batch"]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    return subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL, env=_environment(), cwd=project())  # type: ignore[call-overload,no-any-return]


def _identity() -> dict[str, str]:
    """Environment that sets Strop as author where git has no user name or email configured."""
    environment = {}
    for key, value in (("name", "Strop"), ("email", "strop@localhost")):
        if not _git("config", f"user.{key}", may_fail=True):
            for role in ("AUTHOR", "COMMITTER"):
                if not os.environ.get(variable := f"GIT_{role}_{key.upper()}"):
                    environment[variable] = value
    return environment


def run(
    *arguments: str, stdin: str | None = None, environment: dict[str, str] | None = None, folder: Path | None = None
) -> str:
    """Runs git and returns its standard output.

    Args:
        folder: the working directory; None for the project.

    Raises:
        GitError: git failed, or is not installed.
    """
    output = _git(*arguments, stdin=stdin, environment=environment, folder=folder)
    assert output is not None
    return output


def _git(
    *arguments: str,
    stdin: str | None = None,
    environment: dict[str, str] | None = None,
    may_fail: bool = False,
    folder: Path | None = None,
) -> str | None:
    """git's standard output; None if it failed and `may_fail`."""
    result = call(*arguments, stdin=stdin, environment=environment, folder=folder)
    if result.returncode == 0:
        return result.stdout.decode("utf-8", "surrogateescape")
    message = message_of(result)
    if "dubious ownership" in message:
        fix = f"git config --global --add safe.directory {project()}"
        raise GitError("git does not trust this folder: it belongs to another user", where=str(project()), fix=fix)
    if may_fail:
        return None
    raise GitError(f"git {arguments[0]} failed: {message or f'exit code {result.returncode}'}", where=str(project()))


def call(
    *arguments: str,
    stdin: str | None = None,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs git, which may fail. Raises GitError if it is not installed."""
    logger.debug(f"git {' '.join(arguments)[:200]}")
    try:
        return subprocess.run(
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


def message_of(result: subprocess.CompletedProcess[bytes]) -> str:
    """git's error message, in one line."""
    return " ".join(result.stderr.decode("utf-8", "replace").split()).removeprefix("fatal: ")


def is_ancestor(commit: str, of: str) -> bool:
    """Whether `commit` is `of` or comes before it; False where one of them is not here."""
    return call("merge-base", "--is-ancestor", commit, of).returncode == 0


def _environment() -> dict[str, str]:
    """The environment without `_REDIRECTIONS`, which are set if Strop runs inside a git hook.

    Messages are in English, no command refreshes the user's index, and refs/replace/ and grafts are ignored.
    """
    kept = {key: value for key, value in os.environ.items() if key not in _REDIRECTIONS}
    ours = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull}
    return {**kept, **ours}
