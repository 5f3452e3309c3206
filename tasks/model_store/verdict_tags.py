"""Completes the registry's tag that names the ledger entry of a verdict: a registration may be killed between the two."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.model_store.ledger_chain import ChainNode
from tasks.tracking.model_versions import Version
from tasks.tracking.registry import Registry
from tasks.tracking.tags import JUDGED_TAG, RECEIPT_TAG


def mirror_verdicts(registry: Registry, versions: Iterable[Version], chain: Iterable[ChainNode]) -> None:
    """Sets the tag of every judged version that lacks it."""
    judged = {node.entry.version: node for node in chain if node.entry.kind == "judged"}
    for version in versions:
        node = judged.get(version.version)
        if node and JUDGED_TAG not in version.tags and version.tags.get(RECEIPT_TAG) == node.entry.receipt:
            registry.set_version_tags(version.version, {JUDGED_TAG: node.commit})
