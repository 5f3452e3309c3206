"""Whether the ledger follows: what each entry says is confirmed by the entries before it, by the tag and the receipt of its
version, by the receipts that name an entry, and by what this clone saw before.

    chain = read_verified("strop-model")     # every command that answers from the ledger; two processes of git

The audit looks at every receipt (`receipt_findings`) and at the registry, too. docs/decisions/0018-ledger-anchors.md.

It stacks one way: ledger_claims.py (what the commits of versions say), ledger_rules.py (what entries must satisfy),
ledger_witnesses.py (what tags, this clone and the registry know), and this module, which runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain as chain_iterables

from tasks.model_store.ledger_chain import Recorded, Refs, broken, note_head, read_chain, read_refs
from tasks.model_store.ledger_claims import claims_of
from tasks.model_store.ledger_entries import champions_of
from tasks.model_store.ledger_rules import Finding, anchor_findings, order_findings, receipt_findings
from tasks.model_store.ledger_witnesses import missing_findings, ref_findings, seen_findings
from tasks.vcs.git_objects import ObjectDamaged, Objects

MANY = 30
"""Versions from which on git's objects are read ahead, in one go."""


def read_verified(
    model: str, further: Callable[[list[Recorded]], Iterable[Finding]] = lambda chain: ()
) -> list[Recorded]:
    """Every entry, the oldest first.

    Args:
        further: what else must not be found in it: this clone notes no entry of a ledger that is refused.

    Raises:
        LedgerBroken: an entry, a tag or the ledger itself is missing, damaged, or not what the others say.
    """
    refs = read_refs(model)
    with Objects() as objects:
        is_long = len(refs.versions) > MANY
        chain = read_chain(model, refs.head, objects, is_long)
        objects.read_ahead(list(refs.versions.values()) if is_long else [])
        for finding in chain_iterables(findings(model, chain, refs, objects), further(chain)):
            raise broken(model, finding.what, finding.fix)
    if chain:
        note_head(model, refs.head)
    return chain


def findings(model: str, chain: list[Recorded], refs: Refs, objects: Objects) -> Iterator[Finding]:
    """Whatever does not follow, without the registry and without the receipts of old versions."""
    try:
        claims = claims_of(refs, objects)
        if not chain:
            yield from missing_findings(model, claims, refs)
            return
        yield from order_findings(chain)
        yield from seen_findings(model, chain, refs, objects)
        yield from ref_findings(model, chain, refs, claims)
        yield from anchor_findings(model, chain, claims, objects)
        for recorded in _newest(chain):
            claim = claims.get(recorded.entry.version)
            if claim and claim.receipt:  # else it is no commit of a version
                yield from receipt_findings(recorded, claim.commit, objects)
    except ObjectDamaged as error:
        yield Finding(error.what, error.fix)


def _newest(chain: list[Recorded]) -> list[Recorded]:
    """The entries that judged the newest version and the champion: no receipt may anchor them yet."""
    judgements = {recorded.entry.version: recorded for recorded in chain if recorded.entry.kind == "judged"}
    reigns = champions_of([recorded.entry for recorded in chain])
    versions = {*list(judgements)[-1:], *(entry.version for entry in reigns[-1:])}
    return [judgements[version] for version in sorted(versions) if version in judgements]
