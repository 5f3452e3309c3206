"""Begins and ends a canary in the ledger. Which units it answers, and what their ratings show: tasks/serve/canary.

    begin_canary(config, 3, CanaryPlan(champion=0, share=0.1), why="by hand")
    end_canary(config, canary, "stopped", numbers={}, why="by hand")

Of several processes that begin or end one at once, one succeeds: a compare-and-swap on the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from tasks.model_store.anchored_ledger import read_anchored
from tasks.model_store.canaries import Canary, CanaryPlan, canary_of, has_spent
from tasks.model_store.ledger import Entry, LedgerMoved, append_entry, champion_version, current_user, now
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_entries import retired_versions
from tasks.model_store.signatures import require_signed
from tasks.model_store.versions import version_receipt
from tasks.promote.candidates import NotPromotable, require_promotable, require_verdict
from tasks.promote.stage import reconcile
from tasks.runtime.files import canonical_json
from tasks.tracking.registry import open_registry

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

Ending = Literal["taken_back", "undecided", "stopped"]


def begin_canary(config: PipelineConfig, version: int, plan: CanaryPlan, why: str, who: str = "") -> Canary:
    """Begins a canary of a version that passed the gate, or whose verdict is inconclusive.

    Args:
        plan: its champion and its level are set here: the champion that serves, and what the verdict keeps for a canary.

    Raises:
        LedgerMoved: another canary runs, or another process wrote to the ledger at the same time.
        NotPromotable: no version serves, or this one may not serve; or ratings could not promote it.
        RegistryError: the registry has no such version.
        SigningError: signatures are required for a promotion and one is missing, or the key cannot sign.
    """
    model, remote = config.register_.model_name, config.register_.ledger_remote
    registry = open_registry(config)
    registry.version(version)
    chain = read_anchored(registry, remote)
    entries = [node.entry for node in chain]
    judged = require_verdict(model, entries, version)
    _require_free(model, chain, version)
    level = _level(model, entries, version)
    if judged.gate == "inconclusive" and not level:
        what = f"the verdict on {model} v{version} is inconclusive and keeps no level for a canary, or one has used it"
        fix = "Ratings could not promote it. For new verdicts, set gate.canary_share; then: strop run --rejudge"
        raise NotPromotable(what, fix=fix)
    require_promotable(config, entries, version, may_be_inconclusive=level > 0)
    require_signed(config, chain, version, "promotion")
    plan = replace(plan, champion=champion_version(entries) or 0, level=level)
    entry = replace(judged, kind="canary", who=who or current_user(), when=now(), why=why, details=plan.text)
    commit = append_entry(model, entry, len(entries), remote, config.signing)
    logger.info(f"canary: {model} v{version} answers {plan.share:.0%} of the {plan.by}s, v{plan.champion} the others")
    return Canary(commit, entry, plan)


def end_canary(
    config: PipelineConfig, canary: Canary, ending: Ending, numbers: Mapping[str, Any], why: str, who: str = ""
) -> Entry:
    """Ends a canary: the champion answers all users again. A version that is taken back counts as rejected.

    Raises:
        LedgerMoved: it has ended, or another process wrote to the ledger at the same time.
    """
    model, remote = config.register_.model_name, config.register_.ledger_remote
    chain = read_anchored(open_registry(config), remote)
    running = canary_of(chain)
    if running is None or running.id != canary.id:
        raise LedgerMoved(f"the canary of v{canary.version} has ended", where=model, fix="See: strop history")
    details = canonical_json({"decision": ending, **numbers})
    by, moment = who or current_user(), now()
    entry = replace(running.entry, kind="canary_ended", who=by, when=moment, why=why, details=details)
    append_entry(model, entry, len(chain), remote, config.signing)
    if entry.rejects:
        reconcile(config)
    serving = champion_version([node.entry for node in chain])
    logger.info(f"canary: {model} v{canary.version} {entry.what}, v{serving} answers all users: {why}")
    return entry


def _require_free(model: str, chain: list[ChainNode], version: int) -> None:
    entries, running = [node.entry for node in chain], canary_of(chain)
    serving = champion_version(entries)
    if running is not None:
        what = f"the canary of v{running.version} runs"
        raise LedgerMoved(what, where=model, fix="Wait for it (strop canary status), or end it: strop canary stop")
    if serving is None or serving == version:
        what = f"{model} v{version} serves already" if serving else f"no version of {model} serves"
        raise NotPromotable(f"{what}: there is nothing to compare a canary with", fix="See: strop history")
    if retirement := retired_versions(entries).get(version):
        what = f"the files of {model} v{version} were removed by retention ({retirement.approval})"
        raise NotPromotable(what, fix="Train a new candidate: strop run")


def _level(model: str, entries: list[Entry], version: int) -> float:
    """What the verdict keeps for a canary, if none has used it."""
    receipt = version_receipt(model, version)
    level = receipt["verdict"].get("canary_level", 0.0) if receipt else 0.0
    return 0.0 if has_spent(entries, version) else float(level)
