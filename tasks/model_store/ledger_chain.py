"""The ledger as git holds it: every entry read from the bytes of its commit, from the newest back to the first.

    chain = read_chain("strop-model", objects)

What the entries say of each other, of the tags and of the receipts is compared in tasks/model_store/ledger_check.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from tasks import paths
from tasks.errors import GitError
from tasks.model_store.ledger_entries import Entry
from tasks.runtime.files import read_json, write_json
from tasks.vcs import git
from tasks.vcs.git_objects import ObjectDamaged, Objects, remedy

SEEN = paths.CACHE / "ledger.json"
"""Model → the newest entry that this clone has seen; null where it began without any. A witness of its own: deleting it
loses nothing else."""
FETCH_COMMAND = "git fetch origin --tags 'refs/strop/*:refs/strop/*'"
FETCH = f"Fetch it from a remote or a clone: {FETCH_COMMAND}"


class LedgerBroken(GitError):
    """The ledger does not follow: an entry is missing, damaged, or says what nothing else confirms."""


@dataclass(frozen=True)
class Recorded:
    """An entry and its place in the chain."""

    commit: str
    """The git commit that holds the entry."""
    entry: Entry

    def __str__(self) -> str:
        return f"`{self.entry.kind} v{self.entry.version}` ({self.commit[:12]})"


@dataclass(frozen=True)
class Refs:
    """Where git says that the ledger and its versions are."""

    head: str | None
    """The ledger's newest entry."""
    versions: dict[int, str]
    """Version → the object that its tag points at, or the ref of a refused candidate."""
    tagged: frozenset[int]
    seen: tuple[bool, str | None] = (False, None)
    """What this clone noted when it looked before (`seen_head`)."""


def ledger_ref(model: str) -> str:
    return f"refs/strop/ledger/{model}"


def read_refs(model: str) -> Refs:
    """What git has now. The note is read first: whoever appends meanwhile notes what is not in the refs that we read."""
    seen = seen_head(model)
    tags, refused = f"refs/tags/{model}@v", f"refs/strop/refused/{model}/v"
    result = git.refs_below(ledger_ref(model), f"{tags}*", refused.removesuffix("/v"))
    versions: dict[int, str] = {}
    tagged = set()
    for prefix in (refused, tags):  # a refused candidate that was promoted has both: the tag goes first
        for name, oid in result.items():
            number = name.removeprefix(prefix)
            if name.startswith(prefix) and number.isdecimal():
                versions[int(number)] = oid
                tagged |= {int(number)} if prefix == tags else set()
    return Refs(result.get(ledger_ref(model)), versions, frozenset(tagged), seen)


def read_chain(model: str, head: str | None, objects: Objects, is_long: bool = False) -> list[Recorded]:
    """Every entry, the oldest first.

    Args:
        is_long: there are hundreds: it is then quicker to list them first.

    Raises:
        LedgerBroken: a commit is missing, damaged, or no entry.
    """
    chain: list[Recorded] = []
    oid = head
    objects.read_ahead(git.first_parents(head) if head and is_long else [])
    while oid is not None:
        try:
            commit = objects.commit(oid)
        except ObjectDamaged as error:
            place = f", the one before {chain[-1]}" if chain else ""
            what = f"its entry {oid[:12]}{place}, {error.what.removeprefix(f'the object {oid} ')}"
            raise LedgerBroken(what, where=ledger_ref(model), fix=_remedy(oid)) from error
        chain.append(Recorded(oid, _entry(model, commit.message, oid)))
        if len(commit.parents) > 1:
            raise broken(model, f"its entry {chain[-1]} has {len(commit.parents)} parents")
        oid = commit.parents[0] if commit.parents else None
    return chain[::-1]


def broken(model: str, what: str, fix: str | None = None) -> LedgerBroken:
    """A ledger that does not follow. Its own ref must be forced: git takes no history that does not go on from ours."""
    ref = ledger_ref(model)
    return LedgerBroken(
        what, where=ref, fix=fix or f"Take it from a remote or a clone: git fetch origin '+{ref}:{ref}'"
    )


def seen_head(model: str) -> tuple[bool, str | None]:
    """Whether this clone has looked before, and the newest entry that it saw then."""
    try:
        seen = read_json(SEEN)
        return model in seen, seen.get(model)
    except (OSError, ValueError, TypeError, AttributeError):
        return False, None


def note_head(model: str, head: str | None) -> None:
    """Notes the newest entry; a disk that may not be written has no witness."""
    if seen_head(model) == (True, head):
        return
    try:
        seen = read_json(SEEN)
        noted = dict(seen) if isinstance(seen, dict) else {}
    except (OSError, ValueError):
        noted = {}
    try:
        write_json(SEEN, {**noted, model: head})
    except OSError:
        return


def _entry(model: str, message: str, oid: str) -> Entry:
    try:
        result = Entry(**json.loads(message.split("\n\n", 1)[1]))
        for field in fields(Entry):
            kind = {"int": int, "bool": bool}.get(str(field.type), str)
            if type(getattr(result, field.name)) is not kind:
                raise TypeError(f"{field.name} is no {kind.__name__}")
    except (IndexError, ValueError, TypeError, RecursionError) as error:
        raise broken(model, f"holds a commit that is no entry ({oid[:12]}: {error})") from error
    return result


def _remedy(oid: str) -> str:
    if git.is_shallow():
        return "This clone is shallow: git fetch --unshallow origin --tags 'refs/strop/*:refs/strop/*'"
    return remedy(oid)
