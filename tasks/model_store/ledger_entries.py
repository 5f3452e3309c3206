"""A ledger entry, and what a list of entries implies: the champion, earlier champions, and the use of the test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tasks.state.alpha_spending import next_share, restored

Kind = Literal["judged", "promoted", "rolled_back", "rejected", "retired"]
INTO_SERVICE: frozenset[Kind] = frozenset({"promoted", "rolled_back"})
"""The kinds of entries that put their version into service."""
ROUNDING = 1e-9
LONGEST_WHY, LONGEST_WHO = 500, 100
"""Characters of a reason and of a name in the registry, whose tags are limited."""


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
    outcome: str = ""
    """The gate's verdict: `passed`, `refused` or `inconclusive`; "" in entries from before it was recorded."""

    @property
    def enters_service(self) -> bool:
        """Whether the entry puts its version into service."""
        return self.kind in INTO_SERVICE

    @property
    def gate(self) -> str:
        """The gate's verdict, in one word."""
        return self.outcome or ("passed" if self.passed else "refused")

    @property
    def approval(self) -> str:
        """Of a promotion, rollback, rejection or retirement: who decided it, when, and why. It is about exactly these weights and
        this verdict: their digests are in the entry, and must be those of the verdict's entry (ledger_rules.py)."""
        who, why = shortened(self.who, LONGEST_WHO), shortened(self.why, LONGEST_WHY)
        return f"{self.kind.replace('_', ' ')} by {who} on {self.when}: {why}"


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning with a mark: the whole is in the ledger."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def champion_of(entries: list[Entry]) -> Entry | None:
    """The model in service."""
    champions = champions_of(entries)
    return champions[-1] if champions else None


def champion_version(entries: list[Entry]) -> int | None:
    """The version in service."""
    champion = champion_of(entries)
    return champion.version if champion else None


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


def served_until(entries: list[Entry]) -> list[str | None]:
    """When the version of each entry was replaced in service; None where it serves now, or never entered service by the entry."""
    ends: list[str | None] = [None] * len(entries)
    serving: int | None = None
    for number, entry in enumerate(entries):
        if entry.enters_service:
            if serving is not None:
                ends[serving] = entry.when
            serving = number
    return ends


def judgement_of(entries: list[Entry], version: int) -> Entry | None:
    """The entry with the verdict on a version."""
    return next((e for e in reversed(entries) if e.kind == "judged" and e.version == version), None)


def decision_of(entries: list[Entry], version: int) -> Entry | None:
    """The newest decision on a version: a promotion, a rollback to it, or a rejection."""
    return next((e for e in reversed(entries) if e.kind not in ("judged", "retired") and e.version == version), None)


def rejected_versions(entries: list[Entry]) -> set[int]:
    """The versions that a person rejected and that were not promoted after it."""
    last = {entry.version: entry.kind for entry in entries if entry.kind not in ("judged", "retired")}
    return {version for version, kind in last.items() if kind == "rejected"}


def retired_versions(entries: list[Entry]) -> dict[int, Entry]:
    """Version → the entry that retired it: retention (`strop gc`) removes the files of its model."""
    return {entry.version: entry for entry in entries if entry.kind == "retired"}


def may_retire(entries: list[Entry], version: int) -> bool:
    """Whether the version may be retired: it was judged, has never served, and did not pass the gate or was rejected."""
    judgement = judgement_of(entries, version)
    has_served = any(entry.enters_service and entry.version == version for entry in entries)
    if judgement is None or has_served:
        return False
    return not judgement.passed or version in rejected_versions(entries)


def version_named(entries: list[Entry], name: str) -> Entry | None:
    """The entry of the version named `champion`, `3` or `v3`; None where there is no such version."""
    if name == "champion":
        return champion_of(entries)
    number = name.removeprefix("v")
    return judgement_of(entries, int(number)) if number.isdecimal() else None


def version_label(version: int | None) -> str:
    """`v3`, or `no version`, in messages."""
    return f"v{version}" if version else "no version"


class Budget(NamedTuple):
    """What earlier verdicts have used of the test set."""

    epoch: int
    """The test epoch, from 1. A verdict on at least twice the rows of an epoch's first verdict begins a new one."""
    looks: int
    """Verdicts in this epoch."""
    alpha_spent: float = 0.0
    """Share of the gate's alpha that is spent (tasks/state/alpha_spending.py)."""
    most_rows: int = 0
    """Rows of the largest test set that was judged."""


def budget_of(entries: list[Entry]) -> Budget:
    epoch, looks, first_rows, spent, most_rows = 1, 0, 0, 0.0, 0
    for entry in entries:
        if entry.kind != "judged":
            continue
        if looks and entry.test_rows >= 2 * first_rows:
            epoch, looks = epoch + 1, 0
        if not looks:
            first_rows = entry.test_rows
        looks += 1
        spent = restored(spent, entry.test_rows, most_rows)
        spent += next_share(spent)
        most_rows = max(most_rows, entry.test_rows)
    return Budget(epoch, looks, spent, most_rows)


def counts_all(round_: Mapping[str, Any], entries: list[Entry]) -> bool:
    """Whether a round (data/round.json) counts every verdict of the entries. One that does not would test a candidate at the level
    of an earlier look, and spend its alpha twice."""
    budget = budget_of(entries)
    spent = round_.get("alpha_spent", budget.alpha_spent)  # not in rounds of earlier releases
    looks = round_.get("test_epoch", 1), round_.get("looks", 0)
    return bool(looks >= (budget.epoch, budget.looks) and spent >= budget.alpha_spent - ROUNDING)


def aliases_of(entries: list[Entry]) -> dict[str, int | None]:
    """The aliases that follow from the ledger: the newest judged version is `challenger` until it serves or is rejected."""
    champion = challenger = None
    for entry in entries:
        if entry.kind == "judged":
            challenger = entry.version
            continue
        champion = entry.version if entry.enters_service else champion
        challenger = None if challenger == entry.version else challenger
    return {"champion": champion, "challenger": challenger}
