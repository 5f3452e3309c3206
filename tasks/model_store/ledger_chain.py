"""The ledger as stored in git: every entry is read from the bytes of its commit, from the newest back to the first; and the
version commits, whose messages name an entry and a receipt.

    chain = read_chain("strop-model", head, objects)

tasks/model_store/ledger_check.py compares the entries with each other, with tags and with receipts.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, fields
from typing import Any

from tasks import paths
from tasks.errors import GitError
from tasks.model_store.ledger_entries import Entry
from tasks.runtime.files import read_object, write_json
from tasks.vcs import git
from tasks.vcs.git_objects import ObjectDamaged, Objects, remedy

LAST_HEADS = paths.CACHE / "ledger.json"
"""Model → the newest entry that this clone has seen; null where this clone began the ledger. Used for checks only: nothing
else is lost with it."""
FETCH_COMMAND = "git fetch origin --tags 'refs/strop/*:refs/strop/*'"
FETCH = f"Fetch it from a remote or a clone: {FETCH_COMMAND}"
NO_LEDGER = "none"
_LINE = re.compile(r"^(receipt|ledger) ([0-9a-f]+|none)$", re.MULTILINE)


class LedgerBroken(GitError):
    """The ledger is inconsistent: an entry is missing, damaged, or contradicted by tags, receipts or the registry."""


@dataclass(frozen=True)
class ChainNode:
    """An entry and its commit."""

    commit: str
    """The git commit of the entry."""
    entry: Entry

    def __str__(self) -> str:
        return f"`{self.entry.kind} v{self.entry.version}` ({self.commit[:12]})"


@dataclass(frozen=True)
class Refs:
    """The refs of the ledger and of its versions."""

    head: str | None
    """The ledger's newest entry."""
    versions: dict[int, str]
    """Version → the object that its tag, or the ref of a refused candidate, points at."""
    tagged: frozenset[int]
    last_seen: tuple[bool, str | None] = (False, None)
    """The result of `last_seen_head`."""


@dataclass(frozen=True)
class Claim:
    """The content of a version commit's message."""

    commit: str
    receipt: str | None = None
    head: str | None = None
    """The newest ledger entry at the time of registration, `none`, or None where it was not recorded."""


def ledger_ref(model: str) -> str:
    return f"refs/strop/ledger/{model}"


def read_refs(model: str) -> Refs:
    """The refs as they are now. The last seen head is read first, as an entry may be appended meanwhile."""
    last_seen = last_seen_head(model)
    tags, refused = f"refs/tags/{model}@v", f"refs/strop/refused/{model}/v"
    result = git.refs_below(ledger_ref(model), f"{tags}*", refused.removesuffix("/v"))
    versions: dict[int, str] = {}
    tagged = set()
    for prefix in (refused, tags):  # a refused candidate that was promoted has both: the tag wins
        for name, oid in result.items():
            number = name.removeprefix(prefix)
            if name.startswith(prefix) and number.isdecimal():
                versions[int(number)] = oid
                tagged |= {int(number)} if prefix == tags else set()
    return Refs(result.get(ledger_ref(model)), versions, frozenset(tagged), last_seen)


def read_chain(model: str, head: str | None, objects: Objects, is_long: bool = False) -> list[ChainNode]:
    """Every entry, the oldest first.

    Args:
        is_long: there are hundreds of entries: it is then faster to list them first.

    Raises:
        LedgerBroken: a commit is missing, damaged, or not an entry.
    """
    chain: list[ChainNode] = []
    oid = head
    objects.read_ahead(git.first_parents(head) if head and is_long else [])
    while oid is not None:
        try:
            commit = objects.commit(oid)
        except ObjectDamaged as error:
            position = f", the one before {chain[-1]}" if chain else ""
            what = f"its entry {oid[:12]}{position}, {error.what.removeprefix(f'the object {oid} ')}"
            raise LedgerBroken(what, where=ledger_ref(model), fix=_fix_for(oid)) from error
        chain.append(ChainNode(oid, _entry(model, commit.message, oid)))
        if len(commit.parents) > 1:
            raise broken_ledger(model, f"its entry {chain[-1]} has {len(commit.parents)} parents")
        oid = commit.parents[0] if commit.parents else None
    return chain[::-1]


def version_message(subject: str, receipt: str, head: str | None) -> str:
    """The message of a version commit: it pins the ledger as it was at registration."""
    return f"{subject}\n\nreceipt {receipt}\nledger {head or NO_LEDGER}\n"


def claims_of(refs: Refs, objects: Objects) -> dict[int, Claim]:
    """Version → the content of its commit's message. Raises ObjectDamaged."""
    return {version: _claim(oid, objects) for version, oid in sorted(refs.versions.items())}


def _claim(oid: str, objects: Objects) -> Claim:
    commit = objects.commit(oid)
    lines = dict(_LINE.findall(commit.message))
    return Claim(commit.oid, lines.get("receipt"), lines.get("ledger"))


def receipt_of(commit: str, objects: Objects) -> dict[str, Any] | None:
    """The receipt in a version commit. Raises ObjectDamaged where it cannot be read."""
    blob = objects.find(f"{commit}:{paths.RECEIPT.as_posix()}")
    if blob is None:
        return None
    try:
        receipt: dict[str, Any] = json.loads(blob.data)
    except (ValueError, RecursionError) as error:
        raise ObjectDamaged(blob.oid, f"is no receipt ({error})") from error
    return receipt


def broken_ledger(model: str, what: str, fix: str | None = None) -> LedgerBroken:
    """The error for an inconsistent ledger. The fix forces its ref: git refuses a history that does not extend the local one."""
    ref = ledger_ref(model)
    return LedgerBroken(
        what, where=ref, fix=fix or f"Take it from a remote or a clone: git fetch origin '+{ref}:{ref}'"
    )


def last_seen_head(model: str) -> tuple[bool, str | None]:
    """Whether this clone has read the ledger before, and the newest entry at that time."""
    heads = read_object(LAST_HEADS)
    return model in heads, heads.get(model)


def save_head(model: str, head: str | None) -> None:
    """Saves the newest entry as seen; on a read-only disk nothing is saved."""
    if last_seen_head(model) == (True, head):
        return
    with contextlib.suppress(OSError):
        write_json(LAST_HEADS, {**read_object(LAST_HEADS), model: head})


def _entry(model: str, message: str, oid: str) -> Entry:
    try:
        result = Entry(**json.loads(message.split("\n\n", 1)[1]))
        for field in fields(Entry):
            kind = {"int": int, "bool": bool}.get(str(field.type), str)
            if type(getattr(result, field.name)) is not kind:
                raise TypeError(f"{field.name} is no {kind.__name__}")
    except (IndexError, ValueError, TypeError, RecursionError) as error:
        raise broken_ledger(model, f"holds a commit that is no entry ({oid[:12]}: {error})") from error
    return result


def _fix_for(oid: str) -> str:
    if git.run("rev-parse", "--is-shallow-repository").strip() == "true":
        return "This clone is shallow: git fetch --unshallow origin --tags 'refs/strop/*:refs/strop/*'"
    return remedy(oid)
