"""A ledger entry, and what a list of entries implies: the champion, earlier champions, and the use of the test set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from tasks.state.alpha_spending import next_share, restored

Kind = Literal["judged", "promoted", "rolled_back", "rejected", "retired", "canary", "canary_ended"]
INTO_SERVICE: frozenset[Kind] = frozenset({"promoted", "rolled_back"})
"""The kinds of entries that put their version into service."""
TAKEN_BACK = "taken_back"
"""Why a canary ended: its answers were shown to be worse."""
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
    details: str = ""
    """Of a canary, as JSON: its plan where it begins, its numbers where it ends or is promoted (canaries.py)."""

    @property
    def enters_service(self) -> bool:
        """Whether the entry puts its version into service."""
        return self.kind in INTO_SERVICE

    @property
    def rejects(self) -> bool:
        """Whether its version shall not serve, since a person rejected it or its canary was shown to be worse."""
        return self.kind == "rejected" or (
            self.kind == "canary_ended" and self.read_details().get("decision") == TAKEN_BACK
        )

    @property
    def decides(self) -> bool:
        """Whether it is a decision about its version: a promotion, a rollback to it, or a rejection."""
        return self.enters_service or self.rejects

    def read_details(self) -> dict[str, Any]:
        """The content of `details`; empty where it is no JSON object."""
        try:
            value = json.loads(self.details or "{}")
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def stored(self) -> dict[str, Any]:
        """The content of its commit. Without details it is that of earlier releases, which can then read it."""
        content = asdict(self)
        return content if self.details else {name: value for name, value in content.items() if name != "details"}

    @property
    def gate(self) -> str:
        """The gate's verdict, in one word."""
        return self.outcome or ("passed" if self.passed else "refused")

    @property
    def approval(self) -> str:
        """Of a promotion, rollback, rejection or retirement: who decided it, when, and why. It is about exactly these weights and
        this verdict: their digests are in the entry, and must be those of the verdict's entry (ledger_rules.py)."""
        who, why = shortened(self.who, LONGEST_WHO), shortened(self.why, LONGEST_WHY)
        return f"{self.what} by {who} on {self.when}: {why}"

    @property
    def what(self) -> str:
        """The kind in words."""
        return "taken back" if self.kind != "rejected" and self.rejects else self.kind.replace("_", " ")


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
    return next((e for e in reversed(entries) if e.version == version and e.decides), None)


def rejected_versions(entries: list[Entry]) -> set[int]:
    """The versions that a person rejected, or whose canary was taken back, and that were not promoted after it."""
    last = {entry.version: entry for entry in entries if entry.decides}
    return {version for version, entry in last.items() if entry.rejects}


def open_canary(entries: Sequence[Entry]) -> int | None:
    """The position of the entry that began the canary which runs now. It ends by its own entry, with a decision about its version,
    and whenever another version enters service: it was compared with the champion before."""
    position: int | None = None
    for number, entry in enumerate(entries):
        if entry.kind == "canary":
            position = number
        elif position is not None and (
            entry.enters_service or (entry.version == entries[position].version and entry.kind != "judged")
        ):
            position = None
    return position


def retired_versions(entries: list[Entry]) -> dict[int, Entry]:
    """Version → the entry that retired it: retention (`strop gc`) removes the files of its model."""
    return {entry.version: entry for entry in entries if entry.kind == "retired"}


def may_retire(entries: list[Entry], version: int) -> bool:
    """Whether the version may be retired: it was judged, has never served, did not pass the gate or was rejected, and has no canary
    now."""
    judgement = judgement_of(entries, version)
    has_served = any(entry.enters_service and entry.version == version for entry in entries)
    canary = open_canary(entries)
    if judgement is None or has_served or (canary is not None and entries[canary].version == version):
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
    """The aliases that follow from the ledger: the newest judged version is `challenger` until it serves, or is rejected or
    retired."""
    champion = challenger = None
    for entry in entries:
        if entry.kind == "judged":
            challenger = entry.version
            continue
        champion = entry.version if entry.enters_service else champion
        is_over = challenger == entry.version and (entry.decides or entry.kind == "retired")
        challenger = None if is_over else challenger
    return {"champion": champion, "challenger": challenger}
