"""The rules for ledger entries: their order, and their agreement with the receipts and commits of their versions.

for finding in order_findings(chain): ...    # one finding per violated rule
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from tasks import paths
from tasks.model_store.canaries import canary_problems
from tasks.model_store.ledger_chain import (
    FETCH,
    NO_LEDGER,
    ChainNode,
    Claim,
    LedgerBroken,
    ledger_ref,
    read_chain,
    receipt_of,
)
from tasks.model_store.ledger_entries import Entry, Kind, champions_of, may_retire, retired_versions
from tasks.runtime.files import content_digest
from tasks.vcs.git_objects import Objects

KINDS = frozenset(get_args(Kind))
VERSION_FIELDS = [
    field.name for field in fields(Entry) if field.name not in ("kind", "version", "who", "when", "why", "details")
]
"""The fields that must be equal in every entry of a version."""


@dataclass(frozen=True)
class Finding:
    what: str
    fix: str | None = None


def order_findings(chain: list[ChainNode]) -> Iterator[Finding]:
    """A version is judged once. Only a version that does not serve is promoted or rejected; a rollback returns to an earlier
    champion; only a version that was refused or rejected, and has never served, is retired, and then it does not serve; one canary
    runs at a time (canaries.py)."""
    judgements: dict[int, Entry] = {}
    receipts: dict[str, int] = {}
    before: list[Entry] = []
    for node in chain:
        entry = node.entry
        if entry.kind == "judged":
            if entry.version in judgements:
                yield Finding(f"its entry {node} judges a version that was judged before")
            if entry.commit and (owner := receipts.setdefault(entry.receipt, entry.version)) != entry.version:
                yield Finding(f"its entry {node} names the receipt of v{owner}")
            judgements.setdefault(entry.version, entry)
        elif entry.kind not in KINDS:
            yield Finding(f"its entry {node} is of no known kind")
        elif entry.version not in judgements:
            yield Finding(f"its entry {node} is about a version that no entry before it judged")
        else:
            for name in VERSION_FIELDS:
                if getattr(entry, name) != getattr(judgements[entry.version], name):
                    yield Finding(f"its entry {node} has another {name} than the entry that judged v{entry.version}")
            champions = champions_of(before)
            if entry.kind in ("promoted", "rejected") and champions and champions[-1].version == entry.version:
                verb = {"promoted": "promotes", "rejected": "rejects"}[entry.kind]
                yield Finding(f"its entry {node} {verb} the version that serves already")
            if entry.kind == "retired" and not may_retire(before, entry.version):
                yield Finding(
                    f"its entry {node} retires a version that passed the gate, or has served, or has a canary"
                )
            if entry.enters_service and entry.version in retired_versions(before):
                yield Finding(f"its entry {node} puts a version into service that was retired")
            if entry.kind == "rolled_back" and entry.version not in [champion.version for champion in champions[:-1]]:
                yield Finding(f"its entry {node} rolls back to a version that did not serve before")
            yield from (Finding(f"its entry {node} {problem}") for problem in canary_problems(entry, before))
        before.append(entry)


def receipt_findings(node: ChainNode, commit: str, objects: Objects) -> Iterator[Finding]:
    """Compares an entry with the receipt in the commit of its version."""
    receipt = receipt_of(commit, objects)
    name = f"v{node.entry.version}"
    if receipt is None:
        yield Finding(f"the commit {commit[:12]} of {name} holds no {paths.RECEIPT}", FETCH)
        return
    entry, verdict = node.entry, receipt.get("verdict") or {}
    if content_digest(receipt) != entry.receipt:
        yield Finding(
            f"its entry {node} names the receipt {entry.receipt[:12]}, but {name} has {content_digest(receipt)[:12]}"
        )
        return
    expected = {
        "verdict": content_digest(verdict),
        "weights_digest": receipt.get("weights"),
        "dataset": receipt.get("dataset"),
        "passed": verdict.get("passed"),
        "outcome": verdict.get("outcome", ""),  # not in verdicts of earlier releases
        "test_epoch": verdict.get("test_epoch"),
        "test_rows": verdict.get("test_rows"),
    }
    for key, value in expected.items():
        if getattr(entry, key) != value:
            yield Finding(
                f"its entry {node} has the {key} {_short(getattr(entry, key))}, but the receipt of {name} has {_short(value)}"
            )


def _short(value: Any) -> str:
    return str(value)[:12]


def anchor_findings(
    model: str, chain: list[ChainNode], claims: dict[int, Claim], objects: Objects
) -> Iterator[Finding]:
    """The entry that a version commit names as the newest must be in the chain, before the verdict on that version."""
    positions = {node.commit: number for number, node in enumerate(chain)}
    judged_at = {r.entry.version: number for number, r in enumerate(chain) if r.entry.kind == "judged"}
    for version, claim in claims.items():
        if claim.head in (None, NO_LEDGER):
            continue
        if claim.head not in positions:
            detail = first_difference(model, chain, str(claim.head), objects)
            what = f"the receipt of v{version} names the entry {str(claim.head)[:12]}, which is not in it{detail}"
            yield Finding(what, fix_by_fetching(model))
        elif positions[str(claim.head)] >= judged_at.get(version, len(chain)):
            yield Finding(
                f"the receipt of v{version} names the entry {str(claim.head)[:12]}, which comes after its own"
            )


def first_difference(model: str, chain: list[ChainNode], head: str, objects: Objects) -> str:
    """The first entry that differs from the chain that ends at `head`, as the end of a sentence; "" where git no longer has
    that chain."""
    try:
        others = read_chain(model, head, objects)
    except LedgerBroken:
        return ""
    for number, expected in enumerate(others):
        if number >= len(chain):
            return f": {expected} was dropped"
        entry = chain[number]
        if entry.commit != expected.commit:
            ours, theirs = asdict(entry.entry), asdict(expected.entry)
            names = [name for name in ours if ours[name] != theirs[name]]
            if {"kind", "version"} & set(names):
                return f": {entry} is in the place of {expected}"
            return f": {entry} has another {', '.join(names) or 'commit'} than {expected}"
    return ""


def fix_by_fetching(model: str) -> str:
    """How to fetch the ledger, also where the local ref has another history."""
    ref = ledger_ref(model)
    return f"{FETCH}; if git rejects that, take it as it is there: git fetch origin '+{ref}:{ref}'"
