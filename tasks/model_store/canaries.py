"""A canary in the ledger: a judged version that answers a share of the users, beside the champion, until their ratings decide.

    canary = canary_of(read_verified("strop-model"))      # the one that runs now, or None
    plan = CanaryPlan(champion=1, share=0.1, level=0.0125)
    entry = replace(judgement, kind="canary", details=plan.text)

The entry that begins it holds its whole plan, so that all gateways and controllers use one share, whatever their params.yaml has.
Its error: docs/decisions/0042-canary.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_entries import (
    Entry,
    champion_version,
    open_canary,
    rejected_versions,
    retired_versions,
    version_label,
)
from tasks.runtime.files import canonical_json

Unit = Literal["conversation", "user"]
UNITS: tuple[Unit, ...] = ("conversation", "user")


@dataclass(frozen=True)
class CanaryPlan:
    """What was fixed when a canary began."""

    champion: int
    """The version that it is compared with."""
    share: float
    """The probability that the canary answers a unit."""
    by: Unit = "conversation"
    """What is answered by one model throughout."""
    level: float = 0.0
    """The level at which ratings show that it is better, from the account of the gate; 0: they cannot."""
    alpha: float = 0.05
    """The level at which ratings show that it is worse."""
    margin: float = 0.0
    """Of a version that passed the gate: it is promoted when it is shown to be worse by less than this; 0: not by this."""
    after_ratings: int = 0
    """Of a version that passed the gate: it is promoted after this many units without harm; 0: not by this."""
    days: float = 14.0
    """After this time it ends undecided."""
    settle_hours: float = 1.0
    """Ratings of a unit count until this time after its first one."""
    per_user: int = 5
    """Units that one user may rate."""

    @property
    def text(self) -> str:
        """For the entry's `details`."""
        return canonical_json(asdict(self))


@dataclass(frozen=True)
class Canary:
    """A canary that runs."""

    id: str
    """The commit of the entry that began it. It decides which units the canary answers."""
    entry: Entry
    plan: CanaryPlan

    @property
    def version(self) -> int:
        return self.entry.version


def canary_of(chain: Sequence[ChainNode]) -> Canary | None:
    """The canary that runs now, by a verified ledger."""
    position = open_canary([node.entry for node in chain])
    if position is None:
        return None
    node = chain[position]
    plan = plan_of(node.entry)
    assert plan is not None, "the rules of the ledger require it"
    return Canary(node.commit, node.entry, plan)


def plan_of(entry: Entry) -> CanaryPlan | None:
    """The plan in an entry that begins a canary; None where it is invalid. Fields of a later release are ignored."""
    names = {field.name for field in fields(CanaryPlan)}
    content = {name: value for name, value in entry.read_details().items() if name in names}
    try:
        plan = CanaryPlan(**{name: _converted(name, value) for name, value in content.items()})
    except (TypeError, ValueError):
        return None
    is_valid = (
        plan.by in UNITS
        and 0 < plan.share < 1
        and 0 <= plan.level < 1
        and 0 < plan.alpha < 1
        and 0 <= plan.margin <= 1
        and min(plan.after_ratings, plan.settle_hours) >= 0
        and 0 < plan.days < float("inf")
        and plan.settle_hours < float("inf")
        and plan.per_user >= 1
    )
    return plan if is_valid else None


_INTEGERS = ("champion", "after_ratings", "per_user")


def _converted(name: str, value: Any) -> Any:
    if name == "by":
        return value
    if isinstance(value, bool) or not isinstance(value, int if name in _INTEGERS else int | float):
        raise TypeError(name)
    return value if name in _INTEGERS else float(value)


def has_spent(entries: Sequence[Entry], version: int) -> bool:
    """Whether a canary of the version has used the level of its look: a second one may not show again that it is better."""
    return any(_level(entry) > 0 for entry in entries if entry.kind == "canary" and entry.version == version)


def _level(entry: Entry) -> float:
    plan = plan_of(entry)
    return plan.level if plan else 0.0


def canary_problems(entry: Entry, before: list[Entry]) -> Iterator[str]:
    """The violated rules of an entry that begins or ends a canary, or promotes its version, as the ends of sentences."""
    if not entry.details and entry.kind not in ("canary", "canary_ended"):
        return
    position = open_canary(before)
    running = before[position].version if position is not None else None
    if entry.kind == "canary":
        yield from _problems_of_start(entry, before, running)
    elif entry.kind == "canary_ended":
        if running != entry.version:
            yield f"ends a canary of v{entry.version}, but that of {version_label(running)} runs"
        if not isinstance(entry.read_details().get("decision"), str):
            yield "has no decision about its canary"
    elif entry.kind != "promoted" or running != entry.version:
        yield "has the numbers of a canary that does not run"


def _problems_of_start(entry: Entry, before: list[Entry], running: int | None) -> Iterator[str]:
    version, serving, plan = entry.version, champion_version(before), plan_of(entry)
    if running is not None:
        yield f"begins a canary while that of v{running} runs"
    if serving is None or serving == version:
        yield "begins a canary of the version that serves" if serving else "begins a canary where no version serves"
    if version in retired_versions(before):
        yield "begins a canary of a version that was retired"
    if version in rejected_versions(before) or entry.gate == "refused":
        yield "begins a canary of a version that was refused or rejected"
    if plan is None:
        yield "has no valid plan of its canary"
        return
    if serving is not None and plan.champion != serving:
        yield f"compares its canary with v{plan.champion}, but {version_label(serving)} serves"
    if plan.level > 0 and has_spent(before, version):
        yield f"uses the level of the look at v{version} a second time"
