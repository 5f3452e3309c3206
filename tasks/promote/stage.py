"""Promotes, rolls back, and updates the alias: first a compare-and-swap on the ledger, then the registry's alias.

    promote(config, 3, why="passed the gate", expected_champion=2)
    rollback(config, why="complaints about sport", expected_champion=3)
    reconcile(config)          # after a crash between the two, or after someone moved the alias

The round on disk does not change, so nothing is trained or judged again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import RegistryError
from tasks.model_store.anchored_ledger import read_anchored
from tasks.model_store.approvals import approvals_of, record_approvals
from tasks.model_store.canaries import canary_of
from tasks.model_store.ledger import (
    Entry,
    LedgerMoved,
    append_entry,
    champion_of,
    champions_of,
    current_user,
    note_mirrored,
    now,
    version_label,
)
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_entries import retired_versions
from tasks.model_store.ledger_remote import follow_if_possible
from tasks.model_store.signatures import require_signed, require_signed_champion
from tasks.model_store.verdict_tags import mirror_verdicts
from tasks.model_store.versions import commit_of, tag_name
from tasks.promote.candidates import require_promotable, require_verdict
from tasks.tracking.model_versions import Version
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import LEDGER_TAG, PROMOTED_TAG
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

ATTEMPTS = 20
"""Attempts to set the alias before we assume that another process keeps moving it."""


def promote(
    config: PipelineConfig,
    version: int,
    why: str,
    expected_champion: int | None,
    force: bool = False,
    who: str = "",
    canary: str = "",
) -> Entry:
    """Puts a version into service if `expected_champion` serves now. Idempotent.

    Args:
        who: the approver, if it is not the user of this process.
        force: also if the gate refused it, a person rejected it, its approval expired, or it was judged against another champion;
            `why` is then required and recorded.
        canary: the numbers of its canary, as JSON, which runs now. An inconclusive version is promoted, too: its canary has shown
            that it is better, at the level that its verdict kept for that.

    Raises:
        LedgerMoved: another version serves than `expected_champion`, or its canary has ended.
        RegistryError: there is no such version, it was refused or rejected, its approval expired, or it was judged against another
            champion.
        SigningError: signatures are required for it and one is missing, also with `force`; or the key cannot sign.
    """
    model, remote = config.register_.model_name, config.register_.ledger_remote
    registry = open_registry(config)  # before the ledger changes: without a registry the alias could not be updated
    registry.version(version)
    chain = read_anchored(registry, remote)
    entries = [node.entry for node in chain]
    champion = champion_of(entries)
    if champion is not None and champion.version == version:
        reconcile(config)
        return champion
    serving = champion.version if champion else None
    _require_expected(model, serving, expected_champion, "See `strop history`, then judge again: strop run --rejudge")
    entry = require_verdict(model, entries, version)
    _require_allowed(config, chain, version, why, force, is_canary=bool(canary))
    registry.require_writable(version)
    promotion = replace(entry, kind="promoted", who=who or current_user(), when=now(), why=why, details=canary)
    if commit := commit_of(model, version):  # so that retention of refused candidates does not remove it
        git.make_ref(f"refs/tags/{tag_name(model, version)}", commit)
    append_entry(model, promotion, len(entries), remote, config.signing)
    reconcile(config)
    logger.info(f"promote: {model} v{version} is now champion, in place of {version_label(serving)}")
    return promotion


def _require_allowed(
    config: PipelineConfig, chain: list[ChainNode], version: int, why: str, force: bool, is_canary: bool
) -> None:
    """Requires what `promote` promises about the version."""
    entries = [node.entry for node in chain]
    running = canary_of(chain) if is_canary else None
    if is_canary and (running is None or running.version != version):
        raise LedgerMoved(
            f"the canary of v{version} has ended", where=config.register_.model_name, fix="See: strop history"
        )
    if retirement := retired_versions(entries).get(version):
        name = f"{config.register_.model_name} v{version}"
        what = f"the files of {name} were removed by retention ({retirement.approval})"
        raise RegistryError(what, fix="Train a new candidate: strop run")
    if not force:
        may_be_inconclusive = running is not None and running.plan.level > 0
        require_promotable(config, entries, version, may_be_inconclusive)
    if force and not why.strip():
        raise RegistryError("a promotion against the gate needs a reason, which is recorded", fix="Add: --why REASON")
    require_signed(config, chain, version, "promotion")


def rollback(config: PipelineConfig, why: str, expected_champion: int | None) -> Entry:
    """Puts the previous champion back into service if `expected_champion` serves now. Of several concurrent calls one succeeds.

    Raises:
        LedgerMoved: another version serves than `expected_champion`.
        RegistryError: there is no previous champion.
        SigningError: signatures are required for it and one is missing, or the key cannot sign.
    """
    model, remote = config.register_.model_name, config.register_.ledger_remote
    registry = open_registry(config)
    chain = read_anchored(registry, remote)
    entries = [node.entry for node in chain]
    champions = champions_of(entries)
    serving = champions[-1].version if champions else None
    _require_expected(model, serving, expected_champion, "See `strop history`, then roll back again if necessary")
    if len(champions) < 2:
        what = f"{model} v{serving} is the first champion" if champions else f"no version of {model} serves"
        raise RegistryError(f"{what}: there is no earlier one to roll back to", fix="See: strop history")
    require_signed(config, chain, champions[-2].version, "promotion")
    registry.require_writable(champions[-2].version)
    entry = replace(champions[-2], kind="rolled_back", who=current_user(), when=now(), why=why)
    append_entry(model, entry, len(entries), remote, config.signing)
    reconcile(config)
    logger.info(f"rollback: {model} v{entry.version} serves again, in place of {version_label(serving)}")
    return entry


def reconcile(config: PipelineConfig) -> int | None:
    """Sets the alias `champion` to the champion in the ledger and returns that version (None: nothing serves). Rejections, and
    names of verdicts, that the registry lacks are written, too.

    The ledger is read again after the alias is set, until both agree: a concurrent promotion is not undone. Processes of
    this machine wait for each other. If it was killed, the next call completes it.

    Raises:
        RegistryError: the registry has no such version, or another process keeps moving the alias.
        SigningError: signatures are required, and one of the champion is missing or invalid: the alias stays where it is.
    """
    from filelock import FileLock

    model = config.register_.model_name
    registry = open_registry(config)
    with FileLock(paths.LOCKS / "alias.lock"):
        for _ in range(ATTEMPTS):
            chain = read_verified(model)
            champion = _champion(chain)
            versions = registry.versions()
            mirror_verdicts(registry, versions, chain)
            _mirror_rejections(registry, versions, chain)
            _set_alias(config, registry, chain)
            # another machine may have appended, and set the alias before this one did
            follow_if_possible(model, config.register_.ledger_remote)
            again = _champion(read_verified(model))
            version = champion.entry.version if champion else None
            if again != champion:
                continue
            if version is None:
                return None
            if registry.alias("champion") == version:
                note_mirrored(model, version)
                return version
    raise RegistryError(
        "another process keeps moving the alias `champion`",
        where=model,
        fix="Only Strop should set it: stop the other process, then: strop run",
    )


def _set_alias(config: PipelineConfig, registry: Registry, chain: list[ChainNode]) -> None:
    champion, entries = _champion(chain), [node.entry for node in chain]
    if champion is None:
        return  # an alias that is set may belong to a ledger that was not fetched
    version = champion.entry.version
    versions = {v.version: v for v in registry.versions()}
    if version not in versions:
        what = f"no longer has version {version} of {registry.model}, the champion in the ledger: it was deleted there"
        raise RegistryError(what, where="the registry", fix="Rebuild it: strop registry rebuild")
    if registry.alias("champion") != version:
        require_signed_champion(config, chain)
        registry.set_alias("champion", version)
    if registry.alias("challenger") == version:  # the challenger is now the champion
        registry.remove_alias("challenger")
    if versions[version].tags.get(LEDGER_TAG) != champion.commit:
        record_approvals(registry, versions[version], approvals_of(entries, version))
        # the entry last: if this process is killed between the two, the next one sets both
        registry.set_version_tags(version, {PROMOTED_TAG: champion.entry.approval, LEDGER_TAG: champion.commit})


def _mirror_rejections(registry: Registry, versions: list[Version], chain: list[ChainNode]) -> None:
    """A rejected version is not the challenger, and has the rejection in its tags, in its model card and on its page."""
    newest = {node.entry.version: node for node in chain if node.entry.decides or node.entry.kind == "retired"}
    rejected = {version: node for version, node in newest.items() if node.entry.rejects}
    for version in versions:
        node = rejected.get(version.version)
        if node is None or version.tags.get(LEDGER_TAG) == node.commit:
            continue
        if registry.alias("challenger") == version.version:
            registry.remove_alias("challenger")
        record_approvals(registry, version, approvals_of([node.entry for node in chain], version.version))
        registry.set_version_tags(version.version, {PROMOTED_TAG: node.entry.approval, LEDGER_TAG: node.commit})


def _champion(chain: list[ChainNode]) -> ChainNode | None:
    """The newest entry that put the present champion into service."""
    champion = champion_of([node.entry for node in chain])
    return next((node for node in reversed(chain) if node.entry is champion), None)


def _require_expected(model: str, serving: int | None, expected: int | None, fix: str) -> None:
    if serving != expected:
        raise LedgerMoved(
            f"{version_label(serving)} serves, not {version_label(expected)}: another process was first",
            where=model,
            fix=fix,
        )
