"""The ledger: who was judged, promoted and rolled back, when, by whom and why. It says which model serves.

A chain of git commits under `refs/strop/ledger/<model>`, one entry a commit: append-only, shared by `git push`, and moved
by compare-and-swap, which the registry's aliases have not. The alias `champion` is its mirror.

    entries = read_ledger("strop-model")
    append_entry("strop-model", entry, expected_length=len(entries))

What anchors an entry, and what is not defended: docs/decisions/0018-ledger-anchors.md.
"""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import UTC, datetime

from tasks import paths
from tasks.errors import GitError
from tasks.model_store.ledger_chain import LedgerBroken as LedgerBroken
from tasks.model_store.ledger_chain import ledger_ref as ledger_ref
from tasks.model_store.ledger_chain import note_head, read_chain
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_entries import Entry as Entry
from tasks.model_store.ledger_entries import Kind as Kind
from tasks.model_store.ledger_entries import champion_of as champion_of
from tasks.model_store.ledger_entries import champions_of as champions_of
from tasks.model_store.ledger_entries import judged as judged
from tasks.model_store.ledger_entries import spent_looks as spent_looks
from tasks.model_store.ledger_entries import version_named as version_named
from tasks.runtime.files import canonical_json, read_json, write_json
from tasks.vcs import git
from tasks.vcs.git_objects import Objects

MIRRORED = paths.CACHE / "mirrored.json"


class LedgerMoved(GitError):
    """Somebody else wrote to the ledger since it was read."""


def read_ledger(model: str) -> list[Entry]:
    """All entries, oldest first; none where nothing was judged yet.

    Raises:
        LedgerBroken: it does not follow, so that nothing can be answered from it.
    """
    return [recorded.entry for recorded in read_verified(model)]


def head_of(model: str) -> str | None:
    """The commit of the newest entry; None where there is none."""
    return git.resolve(ledger_ref(model))


def append_entry(model: str, entry: Entry, expected_length: int) -> str:
    """Appends an entry, if the ledger has `expected_length` entries now. Returns the commit that holds it.

    Raises:
        LedgerMoved: it has another length, or grew this very moment.
    """
    ref = ledger_ref(model)
    head = head_of(model)
    with Objects() as objects:
        length = len(read_chain(model, head, objects))
    if length != expected_length:
        raise LedgerMoved(
            f"has {length} entries, not {expected_length}", where=ref, fix="See `strop history`, then repeat"
        )
    subject = f"{entry.kind} {model} v{entry.version}"
    commit = git.make_commit(git.empty_tree(), f"{subject}\n\n{canonical_json(asdict(entry))}\n", parent=head)
    try:
        git.move_ref(ref, commit, expected=head)
    except git.RefMoved as error:
        raise LedgerMoved(
            "somebody else wrote to it first", where=ref, fix="See `strop history`, then repeat"
        ) from error
    note_head(model, commit)
    return commit


def is_mirrored(model: str, version: int) -> bool:
    """Whether the alias `champion` was once set to this champion: not so where a promotion was killed half-way.

    A note on this disk, so that it costs no look into the registry. An alias that is moved by hand later changes nothing.
    """
    try:
        return bool(read_json(MIRRORED).get(model) == version)
    except (FileNotFoundError, ValueError, AttributeError):
        return False


def note_mirrored(model: str, version: int) -> None:
    """Notes that the alias `champion` follows the ledger."""
    try:
        noted = dict(read_json(MIRRORED))
    except (FileNotFoundError, ValueError, TypeError):
        noted = {}
    write_json(MIRRORED, {**noted, model: version})


def who() -> str:
    """The user's name, for an entry."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number and no name
        return "unknown"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
