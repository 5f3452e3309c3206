"""Refs of a git remote: listed, fetched, and pushed all at once or not at all.

    refs = list_refs("origin", "refs/strop/ledger/tiny", "refs/tags/tiny@v*")
    push_refs("origin", {"refs/strop/ledger/tiny": commit})

git neither asks for a password nor runs hooks, and gives up if the remote does not answer. FETCH_HEAD and the user's
remote-tracking branches stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from tasks.errors import GitError
from tasks.runtime.redaction.text import without_credentials
from tasks.vcs import git

MOVED = (
    *("[rejected]", "failed to update ref", "cannot lock", "failed to lock", "already exists", "old value"),
    "transaction failed",
)
"""What git prints for a ref that another process moved first, or is moving. Other reasons, such as a hook or a missing
permission, are the server's own."""
_LIMITS = {"GIT_TERMINAL_PROMPT": "0", "GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": "60"}
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=20"


class RemoteUnreachable(GitError):
    """The remote does not answer, does not exist, or refuses access; nothing was changed."""


def list_refs(remote: str, *patterns: str) -> dict[str, str]:
    """Ref → object id, of every ref of the remote that matches a pattern.

    Raises:
        RemoteUnreachable: it cannot be read.
    """
    result = git.call("ls-remote", "--quiet", "--refs", remote, *patterns, environment=_environment())
    if result.returncode != 0:
        raise _unreachable(remote, git.message_of(result))
    lines = result.stdout.decode("utf-8", "surrogateescape").splitlines()
    return {name: oid for oid, name in (line.split("\t", 1) for line in lines)}


def fetch_objects(remote: str, refs: Collection[str]) -> None:
    """Fetches what refs of the remote point at. No ref of this clone changes, so processes of one clone may fetch at once.

    Raises:
        RemoteUnreachable: it cannot be read, or no longer has a ref.
    """
    options = ("--quiet", "--no-tags", "--refmap=", "--no-write-fetch-head", "--no-auto-maintenance")
    result = git.call("fetch", *options, "--no-recurse-submodules", remote, *refs, environment=_environment())
    if result.returncode != 0:
        raise _unreachable(remote, git.message_of(result))


def push_refs(remote: str, refs: Mapping[str, str]) -> None:
    """Points refs of the remote at commits: all of them, or none. No ref is moved to another history.

    Raises:
        RefMoved: the remote has another commit there, which is not an ancestor: another process was first.
        RemoteUnreachable: it does not answer, or refuses the push for a reason of its own.
    """
    options = ("--porcelain", "--atomic", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
    refspecs = [f"{commit}:{ref}" for ref, commit in refs.items()]
    result = git.call("push", *options, remote, *refspecs, environment=_environment())
    if result.returncode == 0:
        return
    refused = [line for line in result.stdout.decode("utf-8", "replace").splitlines() if line.startswith("!")]
    if any(mark in line for line in refused for mark in MOVED):
        raise git.RefMoved("another process moved it first", where=f"{_name(remote)}: {_refs_in(refused, refs)}")
    raise _unreachable(remote, "; ".join(line.split("\t")[-1] for line in refused) or git.message_of(result))


def require_writable(remote: str) -> None:
    """Raises RemoteUnreachable if the remote does not accept a push of this login. Nothing is pushed; hooks there do not run."""
    refspec = f"{git.head_commit()}:refs/strop/check"
    result = git.call("push", "--dry-run", "--no-verify", "--quiet", remote, refspec, environment=_environment())
    if result.returncode != 0:
        raise _unreachable(remote, git.message_of(result))


def _refs_in(lines: Collection[str], refs: Collection[str]) -> str:
    return ", ".join(ref for ref in refs if any(f":{ref}\t" in line for line in lines))


def _unreachable(remote: str, message: str) -> RemoteUnreachable:
    fix = "Check the remote: git ls-remote; nothing was changed, so repeat the command when it answers"
    return RemoteUnreachable(without_credentials(message)[:300], where=f"the git remote {_name(remote)}", fix=fix)


def _name(remote: str) -> str:
    return without_credentials(remote)


def _environment() -> dict[str, str]:
    is_set = any(name in os.environ for name in ("GIT_SSH", "GIT_SSH_COMMAND"))
    if is_set or git.call("config", "core.sshCommand").returncode == 0:
        return _LIMITS
    return {**_LIMITS, "GIT_SSH_COMMAND": _SSH}
