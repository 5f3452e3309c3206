"""The ledger shared by several machines: a git remote holds it, and an entry counts once the remote has it.

    follow_remote("strop-model", "origin")             # take what other machines appended
    publish("strop-model", "origin", commit)           # append there; of two machines that append at once, one succeeds

A push that extends the remote's history is a compare-and-swap: git refuses one that does not. The refs of the versions are
pushed with their entry, all or none, so that two machines cannot give one number to two models.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from tasks.errors import GitError, SigningError
from tasks.model_store.ledger_chain import LedgerBroken, broken_ledger, ledger_ref, read_chain
from tasks.model_store.ledger_loss import (
    LedgerLost,
    exchange_version_refs,
    list_remote,
    note_seen,
    require_none_lost,
    take_refs,
    version_refs,
)
from tasks.signing.refs import is_signature_ref, refs_prefix, subject_of
from tasks.vcs import git, git_remote
from tasks.vcs.git_objects import Objects

logger = logging.getLogger(__name__)

ATTEMPTS, PAUSE_SECONDS = 10, 0.2
"""Of a push that the remote refused, as another one was in progress there."""


class LedgerMoved(GitError):
    """Another process wrote to the ledger since it was read."""


def follow_remote(model: str, remote: str) -> bool:
    """Takes the remote's newer entries, with the refs of their versions. Returns whether there were any.

    Refs of versions that the remote or this clone lost are restored from the other one.

    Args:
        remote: a remote's name or address; "" for a ledger that is not shared.

    Raises:
        RemoteUnreachable: the remote cannot be read.
        LedgerBroken: both have entries that the other one lacks, or a version's ref points at another commit there.
        LedgerLost: the remote does not have the ledger any more.
    """
    if not remote:
        return False
    for _ in range(ATTEMPTS):
        with suppress(git.RefMoved):  # another process of this clone took the same entries, or appended one
            return _follow(model, remote)
    raise LedgerMoved("other processes keep writing to it", where=ledger_ref(model), fix="Repeat the command")


def _follow(model: str, remote: str) -> bool:
    """Raises RefMoved where another process of this clone writes to the ledger at the same time."""
    ref, local = ledger_ref(model), git.resolve(ledger_ref(model))
    there = list_remote(model, remote)
    head = there.get(ref)
    _follow_signatures(model, remote, there)
    if head is None:
        require_none_lost(model, remote, there, local)
        return False
    if local is not None and git.is_ancestor(
        head, local
    ):  # entries that only this clone has are pushed with the next one
        exchange_version_refs(model, remote, there)
        note_seen(model, remote, head)
        return False
    git_remote.fetch_objects(remote, [ref])
    if git.resolve(head) is None:
        raise broken_ledger(model, f"is no commit at {remote}")
    if local is not None and not git.is_ancestor(local, head):
        raise _diverged(model, remote, local, head)
    with Objects() as objects:
        commits = {node.commit for node in read_chain(model, local, objects)}
        versions = {n.entry.version for n in read_chain(model, head, objects) if n.commit not in commits}
    names = [name for name in version_refs(model, versions) if name in there]
    here = git.refs_below(*names)
    if moved := [name for name in names if here.get(name, there[name]) != there[name]]:
        raise _two_commits(model, remote, moved[0], here[moved[0]], there[moved[0]])
    take_refs(remote, there, [name for name in names if name not in here])  # before the ledger, which requires the tags
    git.move_ref(ref, head, expected=local)
    note_seen(model, remote, head)
    exchange_version_refs(model, remote, there)
    count = len(git.first_parents(head)) - len(commits)
    logger.info(f"ledger: {count} new {'entry' if count == 1 else 'entries'} from {remote}")
    return True


def follow_if_possible(model: str, remote: str) -> None:
    """`follow_remote` for reading: without an answer, or after the remote lost it, the ledger of this clone is used."""
    try:
        follow_remote(model, remote)
    except (git_remote.RemoteUnreachable, LedgerLost) as error:
        logger.warning(f"ledger: {error}; this clone's ledger is used, which may be older")


def follow_if_behind(model: str, remote: str, anchors: Mapping[int, Collection[str]]) -> None:
    """`follow_if_possible`, if the registry names an entry that this clone lacks: so a look at a version costs no connection.

    Args:
        anchors: version → the entries that its tags in the registry name.
    """
    named = {commit for commits in anchors.values() for commit in commits}
    if remote and named - {*git.first_parents(ledger_ref(model))}:
        follow_if_possible(model, remote)


def publish(model: str, remote: str, commit: str) -> None:
    """Appends an entry to the remote's ledger, with earlier ones that it lacks, and the refs of their versions.

    Raises:
        LedgerMoved: another machine appended first. Nothing was changed.
        LedgerLost: the remote does not have the ledger any more. Nothing was changed.
        RemoteUnreachable: the remote does not answer, or refuses the push. Nothing was changed.
    """
    ref = ledger_ref(model)
    with Objects() as objects:
        chain = read_chain(model, commit, objects)
    positions = {node.commit: number for number, node in enumerate(chain)}
    for _ in range(ATTEMPTS):
        there = list_remote(model, remote)
        head = there.get(ref)
        if head is None:
            require_none_lost(model, remote, there, commit)
        if head is not None and head not in positions:
            break
        if head == commit:
            return None  # it was appended by a push whose answer was lost
        new = {node.entry.version for node in chain[positions[head] + 1 if head else 0 :]}
        refs = {n: oid for n, oid in git.refs_below(*version_refs(model, new)).items() if there.get(n) != oid}
        if taken := next((name for name in refs if name in there), None):
            raise _two_commits(model, remote, taken, refs[taken], there[taken])
        subjects = {*positions, *(node.entry.receipt for node in chain)}  # not of an entry that was never appended
        refs |= {name: oid for name, oid in _unshared(model, there).items() if subject_of(name) in subjects}
        try:
            git_remote.push_refs(remote, {**refs, ref: commit})
            return note_seen(model, remote, commit)
        except git.RefMoved:  # or a transaction of another machine holds the lock, and may still fail
            time.sleep(PAUSE_SECONDS)
    raise LedgerMoved(
        "another machine appended to it first", where=f"{ref} at {remote}", fix="See `strop history`, then repeat"
    )


def publish_signatures(model: str, remote: str) -> None:
    """Pushes the signatures that the remote lacks, and those that were made again.

    Raises:
        RefMoved: another machine has made one of them again, too.
        RemoteUnreachable: the remote does not answer, or refuses the push.
        SigningError: the remote has another signature in the place of one of this clone's. The others were pushed.
    """
    there = list_remote(model, remote)
    here = git.refs_below(refs_prefix(model))
    others = {ref: oid for ref, oid in here.items() if there.get(ref, oid) != oid}
    again = {ref: oid for ref, oid in others.items() if git.is_ancestor(there[ref], oid)}
    if refs := {**_unshared(model, there), **again}:
        git_remote.push_refs(remote, refs)
    if replaced := sorted(others.keys() - again.keys()):
        what = f"{remote} has another object in the place of this clone's signature, and keeps it"
        fix = f"Remove it there, then repeat: git push {remote} --delete {replaced[0]}"
        raise SigningError(what, where=replaced[0], fix=fix)


def follow_signatures(model: str, remote: str) -> None:
    """Takes the remote's signatures. Raises RemoteUnreachable."""
    _follow_signatures(model, remote, list_remote(model, remote))


def _follow_signatures(model: str, remote: str, there: Mapping[str, str]) -> None:
    """Takes the signatures that this clone lacks, and those that were made again."""
    here = git.refs_below(refs_prefix(model))
    names = [name for name, oid in there.items() if is_signature_ref(model, name) and here.get(name) != oid]
    if not names:
        return
    git_remote.fetch_objects(remote, names)
    for name in names:
        if name not in here or git.is_ancestor(here[name], there[name]):
            git.move_ref(name, there[name], expected=here.get(name))


def _unshared(model: str, there: Mapping[str, str]) -> dict[str, str]:
    """The signatures of which the remote has none."""
    return {name: oid for name, oid in git.refs_below(refs_prefix(model)).items() if name not in there}


def _diverged(model: str, remote: str, local: str, head: str) -> LedgerBroken:
    with Objects() as objects:
        ours, theirs = read_chain(model, local, objects), read_chain(model, head, objects)
    shared = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a.commit != b.commit), 0)
    what = f"has the entry {ours[shared]} here, but {theirs[shared]} in its place at {remote}"
    fix = (
        f"Take the remote's, and judge this clone's candidates again: rm .strop/ledger.json; "
        f"git fetch {remote} '+{ledger_ref(model)}:{ledger_ref(model)}'; strop run --rejudge"
    )
    if ours[0].commit != theirs[0].commit:
        fix = (
            f"The two have no entry in common. If the remote's is of another project, name another remote or another "
            f"register.model_name. If both are of this project: {fix}"
        )
    return broken_ledger(model, what, fix)


def _two_commits(model: str, remote: str, ref: str, here: str, there: str) -> LedgerBroken:
    what = f"is about {ref}, which points at {here[:12]} here, and at {there[:12]} at {remote}"
    fix = (
        f"See both: git show {here[:12]}; git fetch {remote} {ref} && git show {there[:12]}; then remove the wrong one"
    )
    return broken_ledger(model, what, fix)
