"""The controller of a canary: reads its ratings, and promotes it, goes on, takes it back, or ends it. Several may run at once.

read_canary(config, gateway_records)      # the running canary and its decision, for `strop canary status`
take_step(config, gateway_records)        # does what the decision says: at most one ledger entry, and one log message
watch(config, gateway_records, stop)      # a step each minute, until `stop` is set
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import StropError
from tasks.feedback.spool import read_spool
from tasks.model_store.canaries import Canary, canary_of
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_remote import LedgerMoved, follow_remote
from tasks.runtime.files import canonical_json, read_object, write_json
from tasks.serve.canary.decision import Decision, decide
from tasks.serve.canary.ratings import ratings_of
from tasks.serve.canary.units import settled_units

logger = logging.getLogger(__name__)

Records = Callable[[], Iterable[Mapping[str, Any]]]

LOCK = paths.LOCKS / "canary.lock"
REPORTED = paths.CACHE / "canary.json"
"""Model → the canary for which an approval was requested. Without the file it is requested again."""
PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class CanaryState:
    canary: Canary
    decision: Decision


def read_canary(config: PipelineConfig, records: Records, now: float | None = None) -> CanaryState | None:
    """The canary that runs and what follows from its ratings; None if none runs.

    Raises:
        LedgerBroken: the ledger is inconsistent.
    """
    canary = canary_of(read_verified(config.register_.model_name))
    if canary is None:
        return None
    moment, plan = time.time() if now is None else now, canary.plan
    units = settled_units(ratings_of(records(), canary.id), 3600 * plan.settle_hours, plan.per_user, moment)
    return CanaryState(canary, decide(canary, units, moment))


def take_step(config: PipelineConfig, records: Records, now: float | None = None) -> CanaryState | None:
    """Does what the ratings say. Of several controllers one writes: on a machine by a lock, elsewhere by the ledger.

    Returns:
        the canary before the step; None if none runs, or if another controller is at work.

    Raises:
        StropError: ledger or registry cannot be used; the next step tries again.
    """
    from filelock import FileLock, Timeout

    follow_remote(config.register_.model_name, config.register_.ledger_remote)
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LOCK, timeout=0):
            state = read_canary(config, records, now)
            if state is not None:
                _act(config, state)
            return state
    except Timeout:
        return None


def watch(
    config: PipelineConfig, records: Records, stop: threading.Event, pause_seconds: float = PAUSE_SECONDS
) -> None:
    """Takes a step each minute until `stop` is set. An error is logged once, and does not end it."""
    last = ""
    while not stop.is_set():
        try:
            take_step(config, records)
            last = ""
        except StropError as error:
            if str(error) != last:
                logger.warning(f"canary: {error}")
            last = str(error)
        stop.wait(pause_seconds)


def begin_by_run(config: PipelineConfig, version: int, why: str) -> Canary:
    """Begins the canary of a new candidate. That of an earlier one ends, as one runs at a time."""
    from tasks.promote.canary import begin_canary, end_canary

    running = read_canary(config, gateway_records)
    if running is not None:
        reason = f"v{version} is newer"
        end_canary(config, running.canary, "stopped", running.decision.numbers(), reason)
    return begin_canary(config, version, config.serve.canary.plan(config.gate.alpha), why)


def _act(config: PipelineConfig, state: CanaryState) -> None:
    from tasks.promote.canary import end_canary
    from tasks.promote.stage import promote

    canary, decision = state.canary, state.decision
    numbers = decision.numbers()
    try:
        if decision.kind == "take_back":
            end_canary(config, canary, "taken_back", numbers, decision.why)
        elif decision.kind == "undecided":
            end_canary(config, canary, "undecided", numbers, decision.why)
        elif decision.kind == "promote" and config.promote.approval == "required":
            _request_approval(config, state)
        elif decision.kind == "promote":
            details = canonical_json({"decision": "promoted", **numbers})
            promote(config, canary.version, f"canary: {decision.why}", canary.plan.champion, canary=details)
    except LedgerMoved as error:  # a person or another controller was first
        logger.info(f"canary: {error}")


def _request_approval(config: PipelineConfig, state: CanaryState) -> None:
    """Logs once that a person may promote the canary. It goes on meanwhile, and ends with its days."""
    model, canary = config.register_.model_name, state.canary
    if read_object(REPORTED).get(model) == canary.id:
        return
    logger.warning(
        f"canary: v{canary.version} waits for approval: {state.decision.why}. Decide: {approval_command(canary)}"
    )
    write_json(REPORTED, {**read_object(REPORTED), model: canary.id})


def gateway_records() -> Iterator[Mapping[str, Any]]:
    """What all gateways of this machine recorded. Damaged lines are skipped; the gateways report them."""
    return (line.record for line in read_spool(paths.SPOOL))


def approval_command(canary: Canary) -> str:
    """The command by which a person promotes the canary."""
    if canary.entry.passed:
        return f"strop approve {canary.version} --why TEXT"
    return f"strop promote {canary.version} --force --why TEXT"
