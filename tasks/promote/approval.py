"""A person's decision about a candidate that waits: approved, it is promoted; rejected, it is not the challenger any more.

    approve(config, 3, why="I read 50 answers", who="ada")
    reject(config, 3, why="it invents dates", who="ada")

Of several decisions at once one is recorded, by compare-and-swap on the ledger. If this is killed, the same call completes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.errors import RegistryError
from tasks.model_store.anchored_ledger import read_anchored
from tasks.model_store.ledger import Entry, LedgerMoved, append_entry, champion_version, current_user, now, read_ledger
from tasks.model_store.ledger_entries import Kind, decision_of
from tasks.model_store.ledger_remote import follow_remote
from tasks.promote.candidates import NotPromotable, require_promotable, require_verdict
from tasks.promote.stage import promote, reconcile
from tasks.tracking.registry import open_registry

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def approve(config: PipelineConfig, version: int, why: str, who: str = "") -> Entry:
    """Puts a version that waits for approval into service.

    Args:
        who: the approver, if it is not the user of this process.

    Raises:
        LedgerMoved: another person has decided about it, or another process wrote to the ledger at the same time.
        NotPromotable: it was refused, judged too long ago, or against another champion.
        RegistryError: the registry has no such version, or cannot be used.
    """
    _require_reason(why)
    model, who = config.register_.model_name, who or current_user()
    follow_remote(model, config.register_.ledger_remote)
    entries = read_ledger(model)
    if decision := repeated_approval(entries, version, who, why):
        reconcile(config)
        return decision
    require_waiting(config, entries, version)
    try:
        entry = promote(config, version, why, expected_champion=champion_version(entries), who=who)
    except LedgerMoved:
        _name_the_first(config, version)
        raise
    if (entry.who, entry.why) != (who, why):  # it serves already
        _name_the_first(config, version)
    return entry


def reject(config: PipelineConfig, version: int, why: str, who: str = "") -> Entry:
    """Records that a version that passed the gate shall not serve, also if its approval expired or another champion serves. The
    arguments and errors are those of `approve`."""
    _require_reason(why)
    model, remote, who = config.register_.model_name, config.register_.ledger_remote, who or current_user()
    registry = open_registry(config)
    registry.version(version)
    entries = [node.entry for node in read_anchored(registry, remote)]
    if decision := _repeated(entries, version, "rejected", who, why):
        reconcile(config)
        return decision
    judged = require_verdict(model, entries, version)
    if not judged.passed:
        what = f"{model} v{version} did not pass the gate, so nobody has to reject it"
        raise NotPromotable(what, fix="See the reason: strop history")
    _require_undecided(model, entries, version)
    registry.require_writable(version)
    entry = replace(judged, kind="rejected", who=who, when=now(), why=why)
    try:
        append_entry(model, entry, len(entries), remote, config.signing)
    except LedgerMoved:
        _name_the_first(config, version)
        raise
    reconcile(config)
    return entry


def require_waiting(config: PipelineConfig, entries: list[Entry], version: int) -> None:
    """Requires that nobody has decided about the version, and that it may be promoted."""
    model = config.register_.model_name
    require_verdict(model, entries, version)
    _require_undecided(model, entries, version)
    require_promotable(config, entries, version)


def repeated_approval(entries: list[Entry], version: int, who: str, why: str) -> Entry | None:
    """The promotion of the version that serves, if the same person approved it for the same reason: it is only completed."""
    is_serving = champion_version(entries) == version
    return _repeated(entries, version, "promoted", who, why) if is_serving else None


def _require_reason(why: str) -> None:
    if not why.strip():
        raise RegistryError(
            "a decision needs a reason, for the ledger", fix="Give one: --why TEXT, or `why` in Prefect's form"
        )


def _name_the_first(config: PipelineConfig, version: int) -> None:
    """Raises LedgerMoved with the decision that was recorded first, if that is what moved the ledger."""
    model = config.register_.model_name
    follow_remote(model, config.register_.ledger_remote)
    _require_undecided(model, read_ledger(model), version)


def _require_undecided(model: str, entries: list[Entry], version: int) -> None:
    if decision := decision_of(entries, version):
        fix = "See: strop history"
        raise LedgerMoved(f"does not wait for approval: {decision.approval}", where=f"{model} v{version}", fix=fix)


def _repeated(entries: list[Entry], version: int, kind: Kind, who: str, why: str) -> Entry | None:
    """The decision on the version, if it is the same by the same person."""
    decision = decision_of(entries, version)
    return decision if decision and (decision.kind, decision.who, decision.why) == (kind, who, why) else None
