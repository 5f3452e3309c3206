"""Audit of the ledger: every entry against the receipt and verdict that it names, the receipts that name it, and the registry;
and the alias against the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.audit.subject import Link, Subject, link
from tasks.model_store.ledger_chain import NO_LEDGER, Claim, claims_of, receipt_of
from tasks.model_store.ledger_check import findings
from tasks.model_store.ledger_entries import Entry, budget_of, champion_version, counts_all, version_label
from tasks.model_store.ledger_rules import Finding, receipt_findings
from tasks.model_store.ledger_witnesses import registry_findings, untagged
from tasks.runtime.plurals import count_of
from tasks.vcs.git_objects import ObjectDamaged


def check_ledger(subject: Subject) -> Link:
    """Checks the ledger against receipts, tags, the registry and the entries that this clone has seen."""
    anchors = subject.registry.anchors()
    result = list(findings(subject.model, subject.chain, subject.refs, subject.objects))
    try:
        claims = claims_of(subject.refs, subject.objects)
    except ObjectDamaged:  # reported above
        return link("ledger", _texts(result), "")
    result += untagged(subject.model, subject.chain, subject.refs)
    result += _receipt_checks(subject, claims)
    result += _anchor_of_version(subject, claims)
    result += registry_findings(subject.model, subject.chain, anchors)
    claim = claims.get(subject.version.version)
    summary = f"{count_of(len(subject.chain), 'entry', 'entries')}; {_anchored(subject, claims, anchors)}"
    return link("ledger", _texts(result), summary, unrecorded=claim is None or claim.head is None)


def check_alias(subject: Subject) -> Link:
    """The alias `champion` must point at the champion in the ledger."""
    serving = champion_version([node.entry for node in subject.chain])
    alias = subject.registry.alias("champion")
    expected = version_label(serving)
    detail = (
        f"the registry's alias `champion` points at {version_label(alias)}, the champion in the ledger is {expected}"
    )
    problems = [f"{detail}: the next run sets it back"] if alias != serving else []
    return link("alias", problems, f"`champion` is {expected}, as in the ledger")


def _receipt_checks(subject: Subject, claims: dict[int, Claim]) -> Iterator[Finding]:
    """Compares every verdict with the receipt that it names, and its look with those before it."""
    before: list[Entry] = []
    for node in subject.chain:
        entry = node.entry
        if entry.kind == "judged" and (claim := claims.get(entry.version)):
            try:
                yield from receipt_findings(node, claim.commit, subject.objects)
                receipt = receipt_of(claim.commit, subject.objects) or {}
            except ObjectDamaged as error:
                yield Finding(error.what)
                continue
            round_ = receipt.get("round") or {}
            epoch, looks, *_ = budget_of(before)
            if (round_.get("test_epoch"), round_.get("looks", 0)) > (epoch, looks):
                yield Finding(
                    f"v{entry.version} was judged after look {round_['looks']} of test epoch {round_['test_epoch']}, "
                    f"but the entries before {node} spent {count_of(looks, 'look')} of epoch {epoch}: one was dropped"
                )
            elif round_ and not counts_all(round_, before):
                yield Finding(
                    f"v{entry.version} was judged at the level of an earlier look: its round does not count all {looks} verdicts "
                    f"before {node}"
                )
        before.append(entry)


def _anchor_of_version(subject: Subject, claims: dict[int, Claim]) -> Iterator[Finding]:
    """The receipt and the message of its commit must name the same entry."""
    claim = claims.get(subject.version.version)
    if claim and "ledger_head" in subject.receipt and claim.head is not None:
        entry = subject.receipt["ledger_head"] or NO_LEDGER
        if entry != claim.head:
            yield Finding(f"the receipt names the entry {entry[:12]}, its commit {claim.head[:12]}")


def _anchored(subject: Subject, claims: dict[int, Claim], anchors: dict[int, frozenset[str]]) -> str:
    """How many entries are confirmed by receipts, and how many by tags in the registry."""
    positions = {node.commit: number for number, node in enumerate(subject.chain, start=1)}
    by_receipt = max((positions.get(str(claim.head), 0) for claim in claims.values()), default=0)
    by_registry = max((positions.get(commit, 0) for commits in anchors.values() for commit in commits), default=0)
    numbers = {"receipts": by_receipt, "the registry": by_registry}
    witnesses = ", ".join(f"{number:,} by {name}" for name, number in numbers.items() if number)
    summary = f"anchored: {witnesses or 'none'}"
    if 0 < max(by_receipt, by_registry) < len(subject.chain):
        summary += f"; the last {len(subject.chain) - max(by_receipt, by_registry)} by nothing yet"
    return summary


def _texts(result: list[Finding]) -> list[str]:
    return list(dict.fromkeys(finding.what for finding in result))
