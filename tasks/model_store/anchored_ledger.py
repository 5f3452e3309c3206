"""The ledger together with the registry, before a command changes both."""

from __future__ import annotations

from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_witnesses import registry_findings
from tasks.tracking.registry import Registry


def read_anchored(registry: Registry) -> list[ChainNode]:
    """The ledger, which must contain every entry that the registry names.

    Raises:
        LedgerBroken: it is inconsistent.
    """
    anchors = registry.anchors()  # before the ledger: the tags are set after an entry is appended
    return read_verified(registry.model, lambda chain: registry_findings(registry.model, chain, anchors))
