"""Removes a version that has no verdict in the ledger: other candidates were judged first, so its look was not counted."""

from __future__ import annotations

from tasks.model_store.ledger import aliases_of, read_ledger
from tasks.model_store.versions import refused_ref, tag_name
from tasks.tracking.registry import Registry
from tasks.tracking.tags import JUDGED_TAG, RECEIPT_TAG
from tasks.vcs import git


def withdraw(registry: Registry, number: int) -> None:
    """Removes the version from git and the registry. If this is killed, `withdraw_unjudged` completes it."""
    for ref in (f"refs/tags/{tag_name(registry.model, number)}", refused_ref(registry.model, number)):
        git.remove_ref(ref)
    registry.delete_version(number)
    challenger = aliases_of(read_ledger(registry.model))["challenger"]
    if challenger is not None and any(version.version == challenger for version in registry.versions()):
        registry.set_alias("challenger", challenger)


def withdraw_unjudged(registry: Registry, receipt: str) -> None:
    """Removes the version that a killed registration of this receipt left, if there is one.

    Args:
        receipt: the digest of a receipt that no verdict in the ledger names. If the registry names one, this clone lacks it: the
            version stays.
    """
    version = registry.find_version(RECEIPT_TAG, receipt)
    if version is not None and JUDGED_TAG not in version.tags:
        withdraw(registry, version.version)
