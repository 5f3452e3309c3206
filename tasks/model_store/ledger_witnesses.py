"""Compares the ledger with tags, with this clone's last seen entry and with the registry: no entry they name may be missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from tasks import paths
from tasks.model_store.ledger_chain import (
    FETCH,
    LAST_HEADS,
    NO_LEDGER,
    ChainNode,
    Claim,
    Refs,
    last_seen_head,
    ledger_ref,
)
from tasks.model_store.ledger_entries import champions_of, rejected_versions
from tasks.model_store.ledger_rules import Finding, first_difference, fix_by_fetching
from tasks.runtime.files import content_digest, read_object
from tasks.vcs.git_objects import Objects


def missing_findings(model: str, claims: dict[int, Claim], refs: Refs) -> Iterator[Finding]:
    """For an empty ledger: evidence that there was one."""
    has_read, head = refs.last_seen
    if head is not None:
        restore = f"or restore it, if git still has the entry: git update-ref {ledger_ref(model)} {head}"
        yield Finding(f"is gone: this clone saw its entry {head[:12]}", f"{FETCH}; {restore}")
    anchors = [(version, c.head) for version, c in claims.items() if c.head not in (None, NO_LEDGER)]
    if anchors:
        version, anchor = anchors[-1]
        yield Finding(f"is not here, but the receipt of v{version} names its entry {str(anchor)[:12]}", FETCH)
    with_receipt = [(version, claim) for version, claim in claims.items() if claim.receipt is not None]
    # a registration of the first version may have been killed between tag and entry: then this clone began the ledger
    on_disk = content_digest(receipt) if (receipt := read_object(paths.RECEIPT)) else None
    if with_receipt and not has_read and with_receipt[-1][1].receipt != on_disk:
        yield Finding(f"is not here, but v{with_receipt[-1][0]} of {model} is registered", FETCH)


def last_seen_findings(model: str, chain: list[ChainNode], refs: Refs, objects: Objects) -> Iterator[Finding]:
    """The newest entry that this clone has seen must still be in the chain."""
    head = refs.last_seen[1]
    if head is not None and head not in {node.commit for node in chain}:
        put_back = f"git update-ref {ledger_ref(model)} {head}"
        fix = f"See it: git log {head}. Restore it: {put_back}; or, if it was dropped on purpose: rm {LAST_HEADS}"
        detail = first_difference(model, chain, head, objects)
        yield Finding(f"the entry {head[:12]}, which this clone saw in it, is not in it any more{detail}", fix)


def ref_findings(model: str, chain: list[ChainNode], refs: Refs, claims: dict[int, Claim]) -> Iterator[Finding]:
    """The champion, its predecessor and passed newer versions must have a tag; every version has the commit that was judged.

    People may remove the tags of other versions: only the audit reports these (`untagged`).
    """
    entries = [node.entry for node in chain]
    promoted = max((entry.version for entry in entries if entry.kind == "promoted"), default=0)
    needed = {entry.version for entry in champions_of(entries)[-2:]}
    needed |= {entry.version for entry in entries if entry.passed and entry.version > promoted} - rejected_versions(
        entries
    )
    for node in chain:
        entry = node.entry
        if entry.kind != "judged":
            continue
        claim = claims.get(entry.version)
        if entry.version in needed and entry.version not in refs.tagged:
            yield _untagged(model, node)
        elif claim and entry.commit and claim.commit != entry.commit:
            yield Finding(
                f"its entry {node} names the commit {entry.commit[:12]}, but v{entry.version} is at {claim.commit[:12]}",
                f"See both: git show {entry.commit[:12]}; git show {claim.commit[:12]}",
            )
        elif claim and claim.receipt and claim.receipt != entry.receipt:
            yield Finding(
                f"its entry {node} names the receipt {entry.receipt[:12]}, but v{entry.version} has {claim.receipt[:12]}"
            )


def untagged(model: str, chain: list[ChainNode], refs: Refs) -> Iterator[Finding]:
    """Versions that passed or served but have no tag."""
    served = {node.entry.version for node in chain if node.entry.enters_service}
    for node in chain:
        entry = node.entry
        if entry.kind == "judged" and (entry.passed or entry.version in served) and entry.version not in refs.tagged:
            yield _untagged(model, node)


def _untagged(model: str, node: ChainNode) -> Finding:
    tag, commit = f"{model}@v{node.entry.version}", node.entry.commit
    again = f"; or, if git still has its commit: git tag {tag} {commit}" if commit else ""
    return Finding(f"its entry {node} is about a version whose tag {tag} is not here", f"{FETCH}{again}")


def registry_findings(model: str, chain: list[ChainNode], anchors: Mapping[int, Collection[str]]) -> Iterator[Finding]:
    """Compares the ledger with the registry: a version's tags name its verdict and the entry that put it into service.

    The tags must be read before the ledger: they are set after an entry is appended.

    Args:
        anchors: version that Strop registered there, as far as known → the entries that its tags name.
    """
    versions = {node.commit: node.entry.version for node in chain}
    for version, commits in sorted(anchors.items()):
        for commit in sorted(commits):
            if commit not in versions:
                what = "is not here, though" if not chain else "lacks an entry:"
                with Objects() as objects:
                    detail = first_difference(model, chain, commit, objects) if chain else ""
                yield Finding(f"{what} the registry has {commit[:12]} at v{version}{detail}", fix_by_fetching(model))
            elif versions[commit] != version:
                yield Finding(
                    f"its entry {commit[:12]} is of v{versions[commit]}, but the registry has it at v{version}"
                )
    has_read, _ = last_seen_head(model)
    if anchors and not chain and not has_read and not any(anchors.values()):
        yield Finding(f"is not here, though v{max(anchors)} of {model} is registered", FETCH)
