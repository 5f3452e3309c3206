"""A ledger entry, and what a list of entries implies: the champion, earlier champions, and the looks already spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["judged", "promoted", "rolled_back"]


@dataclass(frozen=True)
class Entry:
    kind: Kind
    version: int
    """For `rolled_back`: the version that serves again."""
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
    """The version commit, which its tag or ref points at; "" in entries from before it was recorded."""


def champion_of(entries: list[Entry]) -> Entry | None:
    """The model in service."""
    champions = champions_of(entries)
    return champions[-1] if champions else None


def champions_of(entries: list[Entry]) -> list[Entry]:
    """The model in service and the earlier ones that a rollback can return to, the newest last."""
    champions: list[Entry] = []
    for entry in entries:
        if entry.kind == "promoted":
            champions.append(entry)
        elif entry.kind == "rolled_back":
            while champions and champions[-1].version != entry.version:
                champions.pop()
            champions[-1:] = [entry]
    return champions


def judgement_of(entries: list[Entry], version: int) -> Entry | None:
    """The entry with the verdict on a version."""
    return next((e for e in reversed(entries) if e.kind == "judged" and e.version == version), None)


def version_named(entries: list[Entry], name: str) -> Entry | None:
    """The entry of the version named `champion`, `3` or `v3`; None where there is no such version."""
    if name == "champion":
        return champion_of(entries)
    number = name.removeprefix("v")
    return judgement_of(entries, int(number)) if number.isdecimal() else None


def spent_looks(entries: list[Entry]) -> tuple[int, int]:
    """The test epoch and the looks already spent on its rows.

    A verdict on at least twice the rows of the epoch's first verdict is the first look of a new epoch: half of its rows were
    never used for a verdict.
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


def aliases_of(entries: list[Entry]) -> dict[str, int | None]:
    """The aliases that follow from the ledger: the newest judged version is `challenger` until it serves."""
    champion = challenger = None
    for entry in entries:
        if entry.kind == "judged":
            challenger = entry.version
        else:
            champion = entry.version
            challenger = None if challenger == champion else challenger
    return {"champion": champion, "challenger": challenger}
