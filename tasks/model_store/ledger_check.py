"""Checks the ledger: every entry must agree with the entries before it, with the tag and the receipt of its version, with the
receipts that name an entry, and with the newest entry that this clone has seen.

    chain = read_verified("strop-model")     # for every command that uses the ledger; two git processes

The audit also checks every receipt (`receipt_findings`) and the registry. docs/decisions/0018-ledger-anchors.md.

Imports go one way: ledger_chain.py (entries and version commits), ledger_rules.py (the rules for entries),
ledger_witnesses.py (tags, this clone and the registry), and this module, which runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain as chain_iterables

from tasks.model_store.ledger_chain import ChainNode, Refs, broken_ledger, claims_of, read_chain, read_refs, save_head
from tasks.model_store.ledger_entries import champions_of
from tasks.model_store.ledger_rules import Finding, anchor_findings, order_findings, receipt_findings
from tasks.model_store.ledger_witnesses import last_seen_findings, missing_findings, ref_findings
from tasks.vcs.git_objects import ObjectDamaged, Objects

READ_AHEAD_ABOVE = 30
"""With more versions than this, git objects are prefetched together."""


def read_verified(
    model: str, further: Callable[[list[ChainNode]], Iterable[Finding]] = lambda chain: ()
) -> list[ChainNode]:
    """Every entry, the oldest first.

    Args:
        further: more checks. The head of a ledger that fails one is not saved as seen.

    Raises:
        LedgerBroken: an entry, a tag or the ledger itself is missing, damaged, or contradicted by the others.
    """
    refs = read_refs(model)
    with Objects() as objects:
        is_long = len(refs.versions) > READ_AHEAD_ABOVE
        chain = read_chain(model, refs.head, objects, is_long)
        objects.read_ahead(list(refs.versions.values()) if is_long else [])
        for finding in chain_iterables(findings(model, chain, refs, objects), further(chain)):
            raise broken_ledger(model, finding.what, finding.fix)
    if chain:
        save_head(model, refs.head)
    return chain


def findings(model: str, chain: list[ChainNode], refs: Refs, objects: Objects) -> Iterator[Finding]:
    """Every inconsistency, without the registry and without the receipts of old versions."""
    try:
        claims = claims_of(refs, objects)
        if not chain:
            yield from missing_findings(model, claims, refs)
            return
        yield from order_findings(chain)
        yield from last_seen_findings(model, chain, refs, objects)
        yield from ref_findings(model, chain, refs, claims)
        yield from anchor_findings(model, chain, claims, objects)
        for node in _newest(chain):
            claim = claims.get(node.entry.version)
            if claim and claim.receipt:  # otherwise it is no version commit
                yield from receipt_findings(node, claim.commit, objects)
    except ObjectDamaged as error:
        yield Finding(error.what, error.fix)


def _newest(chain: list[ChainNode]) -> list[ChainNode]:
    """The verdicts on the newest version and on the champion: perhaps no later receipt confirms them yet."""
    judgements = {node.entry.version: node for node in chain if node.entry.kind == "judged"}
    champions = champions_of([node.entry for node in chain])
    versions = {*list(judgements)[-1:], *(entry.version for entry in champions[-1:])}
    return [judgements[version] for version in sorted(versions) if version in judgements]
