"""Which candidates wait for a person, until when, and whether a version may be promoted.

    waiting_candidates(config, entries)          # [Candidate(version=3, until="2026-12-07T08:00:00+00:00", is_expired=False)]
    require_promotable(config, entries, 3)       # raises if it was refused, rejected, or judged too long ago

That a candidate waits is recorded nowhere: it follows from the ledger. docs/decisions/0035-approval.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tasks.errors import RegistryError
from tasks.model_store.ledger import Entry, champion_version, judgement_of, version_label
from tasks.model_store.ledger_entries import decision_of
from tasks.model_store.versions import version_receipt

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


class NotPromotable(RegistryError):
    """The version must not be promoted, however often it is tried."""


@dataclass(frozen=True)
class Candidate:
    """A version that passed the gate, and that nobody has promoted or rejected."""

    version: int
    until: str | None
    """When its approval expires (UTC, ISO 8601); None if nobody has to approve it."""
    is_expired: bool


def undecided(entries: list[Entry], days: int | None, moment: datetime) -> list[Candidate]:
    """The versions that passed the gate, and that no later entry is about, oldest first.

    Args:
        days: from the verdict to the end of the time for approval; None: without an end.
    """
    judged = [e for e in entries if e.kind == "judged" and e.passed and decision_of(entries, e.version) is None]
    ends = [(entry.version, None if days is None else expiry_of(entry, days)) for entry in judged]
    return [
        Candidate(version, end.isoformat(timespec="seconds") if end else None, end is not None and end <= moment)
        for version, end in ends
    ]


def expiry_of(judged: Entry, days: int) -> datetime:
    """When a verdict is too old for an approval. One without a readable time has expired."""
    try:
        return datetime.fromisoformat(judged.when).astimezone(UTC) + timedelta(days=days)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)


def waiting_candidates(config: PipelineConfig, entries: list[Entry]) -> list[Candidate]:
    """The undecided candidates that were judged against the present champion."""
    serving = champion_version(entries)
    # a version that was judged before the champion first served was judged against another one
    start = next((number for number, e in enumerate(entries) if e.enters_service and e.version == serving), 0)
    candidates = undecided(entries[start:], config.promote.expires_after_days, datetime.now(UTC))
    return [each for each in candidates if _judged_against(config, entries, each.version) == serving]


def as_time(moment: str | None) -> str:
    """`2026-12-07 08:00 UTC`, in messages."""
    return f"{moment[:16].replace('T', ' ')} UTC" if moment else ""


def require_verdict(model: str, entries: list[Entry], version: int) -> Entry:
    entry = judgement_of(entries, version)
    if entry is None:
        raise NotPromotable(f"{model} v{version} was never judged by the gate", fix="See: strop history")
    return entry


def require_promotable(
    config: PipelineConfig, entries: list[Entry], version: int, may_be_inconclusive: bool = False
) -> None:
    """Requires that the version passed the gate, against the model that serves now, and was not rejected. If nobody has decided
    about it yet, its verdict must be recent enough for an approval.

    Args:
        may_be_inconclusive: other data than the test rows have shown that the version is better.

    Raises:
        NotPromotable: one of these is not so; the message has the commands.
    """
    model, serving = config.register_.model_name, champion_version(entries)
    entry, decision = require_verdict(model, entries, version), decision_of(entries, version)
    force = f"strop promote {version} --force --why REASON"
    if not entry.passed and not (may_be_inconclusive and entry.gate == "inconclusive"):
        what = f"did not pass the gate: {entry.gate} ({entry.why})"
        raise NotPromotable(
            f"{model} v{version} {what}", fix=f"See the reason: strop history. To promote it anyway: {force}"
        )
    if decision is not None and decision.rejects:
        raise NotPromotable(f"{model} v{version} was {decision.approval}", fix=f"To promote it anyway: {force}")
    against = _judged_against(config, entries, version)
    if against != serving:
        what = f"was judged against {version_label(against)}, but {version_label(serving)} serves"
        raise NotPromotable(f"{model} v{version} {what}", fix=f"Judge it again: strop run --rejudge; or {force}")
    days = config.promote.expires_after_days
    if decision is None and days is not None and (end := expiry_of(entry, days)) <= datetime.now(UTC):
        what = f"was judged on {as_time(entry.when)}, and its approval expired on {as_time(end.isoformat())}"
        raise NotPromotable(f"{model} v{version} {what}", fix=f"Judge it again: strop run --rejudge; or {force}")


def _judged_against(config: PipelineConfig, entries: list[Entry], version: int) -> int | None:
    """The champion that the version was compared with, by its receipt; without one, the champion before its verdict."""
    receipt = version_receipt(config.register_.model_name, version)
    if receipt is not None:
        against: int | None = receipt["verdict"].get("champion_version")
        return against
    judged = next(number for number, e in enumerate(entries) if e.kind == "judged" and e.version == version)
    return champion_version(entries[:judged])
