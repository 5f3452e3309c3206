"""Removes the files that neither a version, an alias, the ledger, a worktree nor a running training needs.

    plan = make_plan(config)      # removes nothing
    plan = run(config)            # the same plan, carried out

Order: an entry `retired` in the ledger for each version, by compare-and-swap; its tags in the registry; then files. The ledger is
what commands and audits rely on, so after a kill at any point nothing counts as damaged, and the next `strop gc` removes the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import DataError
from tasks.model_store.anchored_ledger import read_anchored
from tasks.model_store.ledger import append_entry, current_user, judgement_of, now
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_entries import retired_versions
from tasks.model_store.versions import refused_ref, tag_name
from tasks.retention.folders import cache_removals, checkpoint_removals, remove, spool_removals, weight_removals
from tasks.retention.logged import has_other_owner, logged_model_removals
from tasks.retention.needed import Uses, needed_versions, removable_versions
from tasks.retention.objects import RetiredCommit, object_removals
from tasks.retention.plan import Plan, in_order
from tasks.retention.uses import read_uses, version_commit
from tasks.runtime.plurals import count_of
from tasks.signing.settings import SigningSettings
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import LEDGER_TAG, RETIRED_TAG
from tasks.vcs import git
from tasks.vcs.dvc_cache import DvcCache, with_locked_cache
from tasks.vcs.git_worktrees import worktrees

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

DAY_SECONDS = 86400.0
FETCH = "Fetch it: git fetch origin --tags 'refs/strop/*:refs/strop/*'"


def make_plan(config: PipelineConfig) -> Plan:
    """What `run` would remove, without removing anything.

    Raises:
        LedgerBroken: the ledger is inconsistent, or lacks an entry that the registry names.
        RegistryError: the registry cannot be reached.
        DataError: an erasure is not complete, or a file that may name a version is damaged.
    """
    return _with_plan(config, lambda registry, plan: plan)


def run(config: PipelineConfig) -> Plan:
    """Removes what nothing needs, and returns what that was. No run may be in progress in any worktree.

    Raises:
        LedgerMoved: another process, such as a promotion, wrote to the ledger meanwhile. No file was removed.
    """
    from filelock import FileLock

    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.LOCKS / "register.lock"):
        return _with_plan(config, partial(_carry_out, remote=config.register_.ledger_remote, signing=config.signing))


def _with_plan(config: PipelineConfig, action: Callable[[Registry, Plan], Plan]) -> Plan:
    """Calls `action` with the plan, while DVC's cache is locked."""
    git.require_repository()
    if paths.ERASING.exists():
        fix = "Complete it first: strop rows forget --erase"
        raise DataError("an erasure of rows was interrupted", where=str(paths.ERASING), fix=fix)
    registry, roots = open_registry(config), worktrees()
    return with_locked_cache(roots, lambda cache: action(registry, _plan(config, registry, cache)), "strop gc")


def _plan(config: PipelineConfig, registry: Registry, cache: DvcCache) -> Plan:
    model, policy, roots = registry.model, config.retention, worktrees()
    registered = registry.versions()  # before the ledger
    chain = read_anchored(registry, config.register_.ledger_remote)
    entries = [node.entry for node in chain]
    uses = read_uses(model, entries, registered, roots)
    needed = needed_versions(uses, policy.refused_candidates)
    unused_since = time.time() - policy.cache_days * DAY_SECONDS
    removals = [*checkpoint_removals(policy.checkpoints), *cache_removals(unused_since)]
    removals += spool_removals(time.time() - policy.served_days * DAY_SECONDS)
    if unknown := [version for version in needed if version_commit(model, version, entries) is None]:
        note = f"the versions stay as they are: git lacks the commit of {_names(unknown)}, which is needed. {FETCH}"
        return Plan(chain=tuple(chain), kept=needed, removals=in_order(removals), notes=(note,))
    removable, why = removable_versions(uses, needed), _why(config)
    removals += logged_model_removals(registry, removable, why)
    removals += weight_removals(*_digests(uses, needed, removable), unused_since)
    notes: tuple[str, ...] = ()
    if any(root in cache.folder.parents for root in roots):
        commits = _commits(model, removable, uses)
        removals += object_removals(cache, commits, why, roots, unused_since)
    else:
        note = f"DVC's cache {cache.folder} is outside the project, so others may use it: nothing is removed from it"
        notes = (note,)
    retired = tuple(version for version in removable if version not in retired_versions(entries))
    return Plan(tuple(chain), retired, needed, in_order(removals), notes, why)


def _why(config: PipelineConfig) -> str:
    return f"not one of the {config.retention.refused_candidates} newest refused candidates"


def _names(versions: list[int]) -> str:
    return ", ".join(f"v{version}" for version in versions)


def _digests(uses: Uses, needed: dict[int, str], removable: list[int]) -> tuple[set[str], set[str]]:
    """The digests of weights that stay, and of those that only retired versions have."""
    of_version = {entry.version: entry.weights_digest for entry in uses.entries}
    staying = {of_version[version] for version in needed} | set(uses.digests)
    return staying, {of_version[version] for version in removable} - staying


def _commits(model: str, removable: list[int], uses: Uses) -> list[RetiredCommit]:
    commits = []
    for version in removable:
        if commit := version_commit(model, version, list(uses.entries)):
            refs = (refused_ref(model, version), f"refs/tags/{tag_name(model, version)}")
            commits.append(RetiredCommit(version, commit, refs))
    return commits


def _carry_out(registry: Registry, plan: Plan, remote: str, signing: SigningSettings | None = None) -> Plan:
    _retire(registry, plan, remote, signing)
    retired = {*plan.retired, *retired_versions([node.entry for node in plan.chain])}
    for removal in plan.removals:
        if removal.source:
            if not registry.remove_files(removal.source, partial(has_other_owner, registry, removal.source, retired)):
                logger.info(f"retention: {removal.what} stays: a version was registered with it meanwhile")
        else:
            for path in removal.paths:
                remove(path)
    logger.info(f"retention: {plan.bytes:,} bytes freed, {count_of(len(plan.retired), 'version')} retired")
    return plan


def _retire(registry: Registry, plan: Plan, remote: str, signing: SigningSettings | None) -> None:
    """Records the decisions in the ledger, then in the registry, where a killed `strop gc` may have recorded none."""
    chain = list(plan.chain)
    registered = {version.version: version.tags for version in registry.versions()}
    for version in [version for version in plan.retired if version in registered][:1]:
        registry.require_writable(version)  # before the ledger changes
    for version in plan.retired:
        judgement = judgement_of([node.entry for node in chain], version)
        assert judgement is not None
        entry = replace(judgement, kind="retired", who=current_user(), when=now(), why=plan.why)
        commit = append_entry(registry.model, entry, len(chain), remote, signing)
        chain.append(ChainNode(commit, entry))
    newest = {node.entry.version: node for node in chain if node.entry.decides or node.entry.kind == "retired"}
    for version, entry in retired_versions([node.entry for node in chain]).items():
        tags = {LEDGER_TAG: newest[version].commit, RETIRED_TAG: entry.approval}
        if version in registered and not tags.items() <= registered[version].items():
            registry.set_version_tags(version, tags)
