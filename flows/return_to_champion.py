"""Corrections before and after the stages of a run: the registry's alias, and a return to the champion's round.

A run returns to the champion if data and parameters are again those of its training, such as after `strop data exclude`: its
weights then come from DVC's run cache, and are the ones that serve. A comparison of a model with itself is meaningless, so the
champion's own round is restored: then its predictions and its verdict come from the cache too.
"""

from __future__ import annotations

import logging

from flows.expired_approvals import report_expired
from flows.outcome import Outcome
from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import PipelineConfig
from tasks.errors import RegistryError
from tasks.model_store.ledger import champion_of, is_mirrored, read_ledger
from tasks.model_store.ledger_remote import follow_if_possible
from tasks.model_store.serving import read_serving
from tasks.model_store.versions import commit_of
from tasks.runtime.files import replacing
from tasks.vcs import git

logger = logging.getLogger(__name__)


def follow_ledger(config: PipelineConfig) -> None:
    """Takes the entries that other machines appended; sets the registry's alias `champion` to the ledger's champion if it differs,
    and reports it; reports approvals that expired. Without a remote this takes milliseconds.

    Raises:
        LedgerBroken: the ledger is inconsistent: the run would compare with, and continue, a model that nobody promoted.
    """
    follow_if_possible(config.register_.model_name, config.register_.ledger_remote)
    serving = read_serving(config)
    report_expired(config, serving.entries)
    if serving.alias_matches is not False and not serving.has_unnamed_verdict:
        return
    if serving.champion is None and not serving.alias_matches:
        logger.warning(f"registry: {serving.problem}")
        return
    from tasks.promote.stage import reconcile

    try:
        version = reconcile(config)
    except RegistryError as error:  # the run itself can continue
        logger.warning(f"registry: {error}")
        return
    if serving.alias_matches:
        return
    if serving.registry.is_dangling:
        state = "pointed at a version that was deleted"
    else:
        state = "was missing" if serving.registry.alias is None else f"pointed at v{serving.registry.alias}"
    logger.warning(f"registry: the alias `champion` {state}; it is reset to v{version}")


def return_to_champion(config: PipelineConfig) -> Outcome | None:
    """Restores the champion's round if the candidate's weights are the champion's; else None."""
    model = config.register_.model_name
    champion = champion_of(read_ledger(model))
    if champion is None or weights_digest(paths.MODEL) != champion.weights_digest:
        return None
    commit = commit_of(model, champion.version)
    round_ = git.read_at(commit, paths.ROUND) if commit else None
    if round_ is not None:
        with replacing(paths.ROUND) as temporary:
            temporary.write_bytes(round_)
    if not is_mirrored(model, champion.version):  # its promotion was killed before the alias moved
        from tasks.promote.stage import reconcile

        reconcile(config)
    return Outcome("back_at_champion", champion.version)
