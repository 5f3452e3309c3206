"""Decides the outcome for a registered candidate: promoted, waiting for approval, a canary, rejected, refused, or inconclusive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.canary import begin_by_run
from flows.outcome import Kind, Outcome
from tasks import paths
from tasks.config import PipelineConfig
from tasks.model_store.canaries import has_spent
from tasks.model_store.ledger import Entry, champion_version, read_ledger
from tasks.model_store.ledger_entries import decision_of, open_canary, rejected_versions
from tasks.runtime.files import read_json
from tasks.state.round import read_round

if TYPE_CHECKING:
    from tasks.register.stage import Registration


def deliver(config: PipelineConfig, registered: Registration) -> Outcome:
    """Promotes a candidate that passed the gate, or begins its canary, if nobody has to approve it. Idempotent.

    Raises:
        StropError: the champion changed since the round began; the candidate then waits for a new verdict.
    """
    from tasks.promote.stage import promote, reconcile

    entries = read_ledger(config.register_.model_name)
    serving = champion_version(entries)
    if registered.outcome == "inconclusive" and not _may_show_a_benefit(config, entries, registered.version):
        return Outcome("inconclusive", serving, registered.version, read_json(paths.VERDICT).get("rows_needed"))
    if registered.outcome not in ("passed", "inconclusive"):
        return Outcome("refused", serving, registered.version)
    if serving == registered.version:
        reconcile(config)
        return Outcome("promoted", serving, registered.version)
    if registered.version in rejected_versions(entries):
        return Outcome("rejected", serving, registered.version)
    canary = open_canary(entries)
    if canary is not None and entries[canary].version == registered.version:
        return Outcome("canary", serving, registered.version)
    if config.promote.approval == "canary" and serving is not None:
        begin_by_run(config, registered.version, f"the gate's verdict is {registered.outcome}")
        return Outcome("canary", serving, registered.version)
    if config.promote.approval == "required":
        return _waiting(config, entries, registered.version)
    judged_against = read_round().champion
    expected = judged_against.version if judged_against else None
    promote(config, registered.version, why="passed the gate", expected_champion=expected)
    return Outcome("promoted", registered.version, registered.version)


def _may_show_a_benefit(config: PipelineConfig, entries: list[Entry], version: int) -> bool:
    """Whether an inconclusive version has a canary, or gets one."""
    canary = open_canary(entries)
    if canary is not None and entries[canary].version == version:
        return True
    level = read_json(paths.VERDICT).get("canary_level", 0.0)
    is_undecided = decision_of(entries, version) is None and not has_spent(entries, version)
    return config.promote.approval == "canary" and level > 0 and is_undecided and champion_version(entries) is not None


def _waiting(config: PipelineConfig, entries: list[Entry], version: int) -> Outcome:
    from tasks.promote.candidates import expiry_of, require_verdict

    judged = require_verdict(config.register_.model_name, entries, version)
    end = expiry_of(judged, config.promote.approval_days)
    kind: Kind = "waiting" if datetime.now(UTC) < end else "expired"
    return Outcome(kind, champion_version(entries), version, until=end.isoformat(timespec="seconds"))


def serving_version(config: PipelineConfig) -> int | None:
    """The champion's version, from the ledger."""
    return champion_version(read_ledger(config.register_.model_name))
