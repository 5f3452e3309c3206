"""An entry of the ledger, and what a list of entries says: who serves, who may serve again, how many looks are spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["judged", "promoted", "rolled_back"]


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
    commit: str = ""
    """The commit that the version was registered with, and that its tag or ref points at; "" in entries of before it was
    recorded."""


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
