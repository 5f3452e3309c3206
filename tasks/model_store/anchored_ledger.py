"""The ledger together with the registry, before a command changes both."""

from __future__ import annotations

from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_witnesses import registry_findings
from tasks.tracking.model_versions import anchors_of
from tasks.tracking.registry import Registry
from tasks.tracking.tags import RECEIPT_TAG


def read_anchored(registry: Registry) -> list[ChainNode]:
    """The ledger, which must contain every entry that the registry names.

    Raises:
        LedgerBroken: it is inconsistent.
    """
    versions = registry.versions()  # before the ledger: its tags are set after an entry is appended
    registered = [version.version for version in versions if RECEIPT_TAG in version.tags]
    anchors = {version.version: anchors_of(version) for version in versions}
    return read_verified(registry.model, lambda chain: registry_findings(registry.model, chain, registered, anchors))
