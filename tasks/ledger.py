"""The ledger: who was judged, promoted and rolled back, when, by whom and why. It says which model serves.

A chain of git commits under `refs/strop/ledger/<model>`, one entry a commit: append-only, shared by `git push`, and moved
by compare-and-swap, which the registry's aliases have not. The alias `champion` is its mirror.

    entries = read_ledger("strop-model")
    append_entry("strop-model", entry, expected_length=len(entries))
"""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from tasks import git, paths
from tasks.errors import GitError
from tasks.files import canonical_json, read_json, write_json

Kind = Literal["judged", "promoted", "rolled_back"]

MIRRORED = paths.CACHE / "mirrored.json"


class LedgerMoved(GitError):
    """Somebody else wrote to the ledger since it was read."""


@dataclass(frozen=True)
class Entry:
    kind: Kind
    version: int
    """`rolled_back`: the version that serves again."""
    weights_digest: str
    receipt: str
    """Digest of the version's receipt."""
    verdict: str
    """Digest of its verdict."""
    dataset: str
    passed: bool
    """Whether the gate let it through."""
    test_epoch: int
    test_rows: int
    who: str
    when: str
    """UTC, ISO 8601."""
    why: str


def ledger_ref(model: str) -> str:
    return f"refs/strop/ledger/{model}"


def read_ledger(model: str) -> list[Entry]:
    """All entries, oldest first; none where nothing was judged yet."""
    head = git.resolve(ledger_ref(model))
    return _entries(model, head) if head else []


def append_entry(model: str, entry: Entry, expected_length: int) -> None:
    """Appends an entry, if the ledger has `expected_length` entries now.

    Raises:
        LedgerMoved: it has another length, or grew this very moment.
    """
    ref = ledger_ref(model)
    head = git.resolve(ref)
    length = len(_entries(model, head)) if head else 0
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


def champion_of(entries: list[Entry]) -> Entry | None:
    """The model in service."""
    reigns = champions_of(entries)
    return reigns[-1] if reigns else None


def champions_of(entries: list[Entry]) -> list[Entry]:
    """The model in service and those that it may be rolled back to, the newest last."""
    reigns: list[Entry] = []
    for entry in entries:
        if entry.kind == "promoted":
            reigns.append(entry)
        elif entry.kind == "rolled_back":
            while reigns and reigns[-1].version != entry.version:
                reigns.pop()
            reigns[-1:] = [entry]
    return reigns


def judged(entries: list[Entry], version: int) -> Entry | None:
    """The entry by which a version was judged."""
    return next((e for e in reversed(entries) if e.kind == "judged" and e.version == version), None)


def version_named(entries: list[Entry], name: str) -> Entry | None:
    """The entry of the version that a person calls `champion`, `3` or `v3`; None where there is no such one."""
    if name == "champion":
        return champion_of(entries)
    number = name.removeprefix("v")
    return judged(entries, int(number)) if number.isdecimal() else None


def spent_looks(entries: list[Entry]) -> tuple[int, int]:
    """The test epoch and the looks already spent on its rows.

    A verdict on at least twice the rows of the epoch's first verdict is the first look of a new epoch: half its rows were
    never looked at.
    """
    epoch, looks, first_rows = 1, 0, 0
    for entry in entries:
        if entry.kind != "judged":
            continue
        if looks and entry.test_rows >= 2 * first_rows:
            epoch, looks = epoch + 1, 0
        if not looks:
            first_rows = entry.test_rows
        looks += 1
    return epoch, looks


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


def _entries(model: str, head: str) -> list[Entry]:
    entries = []
    for message in git.messages(head):
        try:
            entries.append(Entry(**json.loads(message.split("\n\n", 1)[1])))
        except (IndexError, ValueError, TypeError) as error:
            fix = f"See: git log {ledger_ref(model)}"
            raise GitError(f"holds a commit that is no entry ({error})", where=ledger_ref(model), fix=fix) from error
    return entries
