"""What the remote of a shared ledger lost: refs of versions are pushed again; a lost ledger is reported, and not begun anew.

    require_ledger("strop-model", "origin")                 # before a run
    exchange_version_refs("strop-model", "origin", refs)    # with refs as list_remote returns them

A clone that is behind could begin a shorter ledger in the place of the lost one, without decisions that only other clones have. So
a ledger that this clone saw at the remote is put there again by a person only, from the clone with the newest entry; and the first
ledger there must have every version, and every entry, that the refs of versions at the remote name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

from tasks.model_store.ledger_chain import (
    NO_LEDGER,
    ChainNode,
    LedgerBroken,
    Refs,
    claims_of,
    last_seen_head,
    ledger_ref,
    read_chain,
    save_head,
)
from tasks.model_store.versions import refused_ref, tag_name
from tasks.signing.refs import refs_prefix
from tasks.vcs import git, git_remote
from tasks.vcs.git_objects import ObjectDamaged, Objects

logger = logging.getLogger(__name__)


class LedgerLost(LedgerBroken):
    """The remote does not have the ledger any more."""


def list_remote(model: str, remote: str) -> dict[str, str]:
    """Ref → object id at the remote: the ledger, the versions of the model, and the signatures of both."""
    of_versions = (f"refs/tags/{model}@v*", f"refs/strop/refused/{model}/v*")
    return git_remote.list_refs(remote, ledger_ref(model), *of_versions, f"{refs_prefix(model)}/*")


def version_refs(model: str, versions: set[int]) -> list[str]:
    """The refs that a version may have: its tag, and that of a refused candidate."""
    return [name for v in sorted(versions) for name in (f"refs/tags/{tag_name(model, v)}", refused_ref(model, v))]


def note_seen(model: str, remote: str, head: str) -> None:
    """Records that the remote has the ledger."""
    save_head(_key(model, remote), head)


def require_ledger(model: str, remote: str) -> None:
    """Raises LedgerLost if the remote lost the ledger; nothing where there was none yet."""
    there = list_remote(model, remote)
    if ledger_ref(model) not in there:
        require_none_lost(model, remote, there, git.resolve(ledger_ref(model)))


def require_none_lost(model: str, remote: str, there: Mapping[str, str], head: str | None) -> None:
    """Requires of a remote without a ledger that a clone with the entry `head` may begin one there.

    Args:
        there: the refs of versions at the remote.
    """
    put_back = f"In the clone whose `strop history` has the newest entry: git push {remote} {ledger_ref(model)}"
    if seen := last_seen_head(_key(model, remote))[1]:
        what = f"is not at {remote} any more, where this clone saw its entry {seen[:12]}"
        raise LedgerLost(what, where=ledger_ref(model), fix=f"{put_back}; then repeat the command")
    if not (versions := _versions_of(model, there)):
        return
    with Objects() as objects:
        chain = read_chain(model, head, objects)
        judged = {node.entry.version for node in chain if node.entry.kind == "judged"}
        if unknown := sorted(versions.keys() - judged):
            names = [name for name in version_refs(model, {unknown[-1]}) if name in there]
            what = f"is not at {remote}, which has v{unknown[-1]}, but the ledger of this clone has no verdict on it"
            never_judged = f"or, if no clone has one: git push {remote} --delete {' '.join(names)}"
            raise LedgerLost(what, where=ledger_ref(model), fix=f"{put_back}; {never_judged}")
        _require_named_entries(model, remote, versions, there, chain, put_back)


def _require_named_entries(
    model: str, remote: str, versions: dict[int, str], there: Mapping[str, str], chain: list[ChainNode], fix: str
) -> None:
    """The entries that the version commits at the remote name must be in the chain."""
    if missing := [name for name in version_refs(model, set(versions)) if git.resolve(there.get(name, "HEAD")) is None]:
        git_remote.fetch_objects(remote, missing)
    commits = {node.commit for node in chain}
    try:
        with Objects() as objects:  # after the fetch
            claims = claims_of(Refs(None, versions, frozenset()), objects)
    except ObjectDamaged as error:
        raise LedgerLost(f"is not at {remote}, and {error.what}", where=ledger_ref(model), fix=fix) from error
    for version, claim in claims.items():
        if claim.head not in (None, NO_LEDGER, *commits):
            what = (
                f"is not at {remote}, whose v{version} names the entry {str(claim.head)[:12]}, which this clone lacks"
            )
            raise LedgerLost(what, where=ledger_ref(model), fix=fix)


def take_refs(remote: str, there: Mapping[str, str], names: list[str]) -> None:
    """Fetches refs of the remote that this clone lacks. Raises RefMoved if another process of this clone made one."""
    if names:
        git_remote.fetch_objects(remote, names)
    for name in names:
        git.move_ref(name, there[name], expected=None)


def exchange_version_refs(model: str, remote: str, there: Mapping[str, str]) -> None:
    """Restores the refs of judged versions that this clone or the remote lost. A remote that refuses is a warning.

    Args:
        there: all refs that `list_remote` returned, with the ledger's; this clone has its entries.
    """
    here = git.refs_below(f"refs/tags/{model}@v*", f"refs/strop/refused/{model}")
    if here.keys() == {name for name in there if name != ledger_ref(model) and not name.startswith(refs_prefix(model))}:
        return
    with Objects() as objects:
        judged = {node.entry.version for node in read_chain(model, there[ledger_ref(model)], objects)}
    names = version_refs(model, judged)  # those of versions that have no verdict there yet are pushed with it
    take_refs(remote, there, [name for name in names if name in there and name not in here])
    if lost := {name: here[name] for name in names if name in here and name not in there}:
        _push_again(remote, lost)


def _push_again(remote: str, refs: dict[str, str]) -> None:
    names = ", ".join(name.removeprefix("refs/tags/") for name in refs)
    try:
        with suppress(git.RefMoved):  # another clone pushed them
            git_remote.push_refs(remote, refs)
            logger.info(f"ledger: {remote} had lost {names}: pushed again")
    except git_remote.RemoteUnreachable as error:
        fix = f"git push {remote} {' '.join(refs)}"
        logger.warning(f"ledger: {remote} lacks {names}, and refuses the push ({error.what}): {fix}")


def _versions_of(model: str, refs: Mapping[str, str]) -> dict[int, str]:
    """Version → the object of its ref."""
    prefixes = (f"refs/strop/refused/{model}/v", f"refs/tags/{model}@v")
    numbers = {name: name.removeprefix(prefix) for prefix in prefixes for name in refs if name.startswith(prefix)}
    return {int(number): refs[name] for name, number in numbers.items() if number.isdecimal()}


def _key(model: str, remote: str) -> str:
    """In the file of the last seen entries; a model's name has no space."""
    return f"{model} at {remote}"
