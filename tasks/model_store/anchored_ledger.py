"""The ledger together with the registry, before a command changes both."""

from __future__ import annotations

from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_remote import follow_remote
from tasks.model_store.ledger_witnesses import registry_findings
from tasks.tracking.registry import Registry


def read_anchored(registry: Registry, remote: str) -> list[ChainNode]:
    """The ledger, which must contain every entry that the registry names; with what other machines appended.

    Args:
        remote: the git remote that shares it; "" if this clone alone has it.

    Raises:
        LedgerBroken: it is inconsistent.
        RemoteUnreachable: the remote cannot be read.
    """
    anchors = registry.anchors()  # before the ledger, also the remote's: the tags are set after an entry is appended
    follow_remote(registry.model, remote)
    return read_verified(registry.model, lambda chain: registry_findings(registry.model, chain, anchors))
