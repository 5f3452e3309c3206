"""Decides the outcome for a registered candidate: promoted, waiting for approval, refused, or inconclusive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.outcome import Outcome
from tasks import paths
from tasks.config import PipelineConfig
from tasks.model_store.ledger import champion_version, read_ledger
from tasks.runtime.files import read_json
from tasks.state.round import read_round

if TYPE_CHECKING:
    from tasks.register.stage import Registration


def deliver(config: PipelineConfig, registered: Registration) -> Outcome:
    """Promotes a candidate that passed the gate, if promotion is automatic. Idempotent.

    Raises:
        StropError: the champion changed since the round began; the candidate then waits for a new verdict.
    """
    from tasks.promote.stage import promote, reconcile

    serving = serving_version(config)
    if registered.outcome == "inconclusive":
        return Outcome("inconclusive", serving, registered.version, read_json(paths.VERDICT).get("rows_needed"))
    if registered.outcome != "passed":
        return Outcome("refused", serving, registered.version)
    if serving == registered.version:
        reconcile(config)
        return Outcome("promoted", serving, registered.version)
    if not config.promote.automatic:
        return Outcome("waiting", serving, registered.version)
    judged_against = read_round().champion
    expected = judged_against.version if judged_against else None
    promote(config, registered.version, why="passed the gate", expected_champion=expected)
    return Outcome("promoted", registered.version, registered.version)


def serving_version(config: PipelineConfig) -> int | None:
    """The champion's version, from the ledger."""
    return champion_version(read_ledger(config.register_.model_name))
