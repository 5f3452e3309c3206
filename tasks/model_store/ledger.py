"""The ledger: every verdict, promotion and rollback, with time, user and reason. It decides which model serves.

A chain of git commits at `refs/strop/ledger/<model>`, one entry per commit: append-only, shared by `git push`, and updated
by compare-and-swap, which MLflow's aliases do not offer. The alias `champion` mirrors it.

    entries = read_ledger("strop-model")
    append_entry("strop-model", entry, len(entries), remote="origin")

How entries are verified, and what is not protected: docs/decisions/0018-ledger-anchors.md.
"""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

from tasks import paths
from tasks.model_store.ledger_chain import ChainNode, read_chain, save_head
from tasks.model_store.ledger_chain import LedgerBroken as LedgerBroken
from tasks.model_store.ledger_chain import ledger_ref as ledger_ref
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_entries import Entry as Entry
from tasks.model_store.ledger_entries import Kind as Kind
from tasks.model_store.ledger_entries import aliases_of as aliases_of
from tasks.model_store.ledger_entries import budget_of as budget_of
from tasks.model_store.ledger_entries import champion_of as champion_of
from tasks.model_store.ledger_entries import champion_version as champion_version
from tasks.model_store.ledger_entries import champions_of as champions_of
from tasks.model_store.ledger_entries import counts_all as counts_all
from tasks.model_store.ledger_entries import judgement_of as judgement_of
from tasks.model_store.ledger_entries import version_label as version_label
from tasks.model_store.ledger_entries import version_named as version_named
from tasks.model_store.ledger_remote import LedgerMoved as LedgerMoved
from tasks.model_store.ledger_remote import publish
from tasks.model_store.signatures import signed
from tasks.runtime.files import canonical_json, read_object, write_json
from tasks.signing.settings import SigningSettings
from tasks.vcs import git
from tasks.vcs.git_objects import Objects

MIRRORED = paths.CACHE / "mirrored.json"


def read_ledger(model: str) -> list[Entry]:
    """All entries, oldest first; empty before the first verdict.

    Raises:
        LedgerBroken: it is inconsistent, so it must not be used.
    """
    return [node.entry for node in read_verified(model)]


def head_of(model: str) -> str | None:
    """The commit of the newest entry; None for an empty ledger."""
    return git.resolve(ledger_ref(model))


def append_entry(
    model: str, entry: Entry, expected_length: int, remote: str, signing: SigningSettings | None = None
) -> str:
    """Appends an entry if the ledger has `expected_length` entries. Returns the commit of the entry.

    Args:
        remote: the git remote that shares the ledger; the entry is appended there first. "": this clone alone has it.
        signing: with a key, the entry is signed, and the receipt of a verdict.

    Raises:
        SigningError: the key cannot sign. Nothing was changed.
        LedgerMoved: it has another length, or another process or machine appended at the same time. Nothing was changed.
        RemoteUnreachable: the remote does not answer, or refuses the entry. Nothing was changed.
    """
    ref = ledger_ref(model)
    head = head_of(model)
    with Objects() as objects:
        chain = read_chain(model, head, objects)
    if len(chain) != expected_length:
        raise LedgerMoved(
            f"has {len(chain)} entries, not {expected_length}", where=ref, fix="See `strop history`, then repeat"
        )
    subject = f"{entry.kind} {model} v{entry.version}"
    empty_tree = git.run("mktree", stdin="").strip()
    commit = git.make_commit(empty_tree, f"{subject}\n\n{canonical_json(entry.stored())}\n", parent=head)
    with signed(model, [*chain, ChainNode(commit, entry)], signing):
        _move(model, commit, head, remote)
    save_head(model, commit)
    return commit


def _move(model: str, commit: str, head: str | None, remote: str) -> None:
    """Points the ledger at its new entry. The remote decides: if this process is killed after it, the next one takes the entry
    from there."""
    ref = ledger_ref(model)
    if remote:
        publish(model, remote, commit)
    try:
        git.move_ref(ref, commit, expected=head)
    except git.RefMoved as error:
        if remote and git.is_ancestor(commit, ref):
            return  # another process of this clone took it from the remote meanwhile
        raise LedgerMoved(
            "another process wrote to it first", where=ref, fix="See `strop history`, then repeat"
        ) from error


def is_mirrored(model: str, version: int) -> bool:
    """Whether the alias `champion` was set to this champion once; False where a promotion was killed before that.

    Read from a local file, not from the registry: an alias that a person moves later changes nothing here.
    """
    return bool(read_object(MIRRORED).get(model) == version)


def note_mirrored(model: str, version: int) -> None:
    """Records that the alias `champion` was set to this version."""
    write_json(MIRRORED, {**read_object(MIRRORED), model: version})


def current_user() -> str:
    """The user's name for an entry."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
