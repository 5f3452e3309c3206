"""What the entries of the ledger must satisfy: among themselves, and with the receipts and commits of their versions.

for finding in order_findings(chain): ...    # each is a rule that does not hold
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tasks import paths
from tasks.model_store.ledger_chain import FETCH, LedgerBroken, Recorded, ledger_ref, read_chain
from tasks.model_store.ledger_claims import NO_LEDGER, Claim, receipt_of
from tasks.model_store.ledger_entries import Entry, champions_of
from tasks.runtime.files import content_digest
from tasks.vcs.git_objects import Objects

OF_VERSION = ("weights_digest", "receipt", "verdict", "dataset", "passed", "test_epoch", "test_rows", "commit")
"""What an entry says of its version: the same in every entry of that version."""


@dataclass(frozen=True)
class Finding:
    what: str
    fix: str | None = None


def order_findings(chain: list[Recorded]) -> Iterator[Finding]:
    """A version is judged once, then perhaps promoted, which one that serves is not; only what served before is rolled back to."""
    known: dict[int, Entry] = {}
    receipts: dict[str, int] = {}
    before: list[Entry] = []
    for recorded in chain:
        entry = recorded.entry
        if entry.kind == "judged":
            if entry.version in known:
                yield Finding(f"its entry {recorded} judges a version that was judged before")
            if entry.commit and (owner := receipts.setdefault(entry.receipt, entry.version)) != entry.version:
                yield Finding(f"its entry {recorded} names the receipt of v{owner}")
            known.setdefault(entry.version, entry)
        elif entry.kind not in ("promoted", "rolled_back"):
            yield Finding(f"its entry {recorded} is of no known kind")
        elif entry.version not in known:
            yield Finding(f"its entry {recorded} is about a version that no entry before it judged")
        else:
            for name in OF_VERSION:
                if getattr(entry, name) != getattr(known[entry.version], name):
                    yield Finding(
                        f"its entry {recorded} has another {name} than the entry that judged v{entry.version}"
                    )
            reigns = champions_of(before)
            if entry.kind == "promoted" and reigns and reigns[-1].version == entry.version:
                yield Finding(f"its entry {recorded} promotes the version that serves already")
            if entry.kind == "rolled_back" and entry.version not in [each.version for each in reigns[:-1]]:
                yield Finding(f"its entry {recorded} goes back to a version that did not serve before")
        before.append(entry)


def receipt_findings(recorded: Recorded, commit: str, objects: Objects) -> Iterator[Finding]:
    """What an entry says of its version against the receipt that the version's commit holds."""
    receipt = receipt_of(commit, objects)
    name = f"v{recorded.entry.version}"
    if receipt is None:
        yield Finding(f"the commit {commit[:12]} of {name} holds no {paths.RECEIPT}", FETCH)
        return
    entry, verdict = recorded.entry, receipt.get("verdict") or {}
    if content_digest(receipt) != entry.receipt:
        yield Finding(
            f"its entry {recorded} names the receipt {entry.receipt[:12]}, but {name} has {content_digest(receipt)[:12]}"
        )
        return
    claimed = {
        "verdict": content_digest(verdict),
        "weights_digest": receipt.get("weights"),
        "dataset": receipt.get("dataset"),
        "passed": verdict.get("passed"),
        "test_epoch": verdict.get("test_epoch"),
        "test_rows": verdict.get("test_rows"),
    }
    for key, value in claimed.items():
        if getattr(entry, key) != value:
            yield Finding(
                f"its entry {recorded} has the {key} {_short(getattr(entry, key))}, but the receipt of {name} has {_short(value)}"
            )


def _short(value: Any) -> str:
    return str(value)[:12]


def anchor_findings(model: str, chain: list[Recorded], claims: dict[int, Claim], objects: Objects) -> Iterator[Finding]:
    """Every entry that the commit of a version names as the newest of its time stands before the one that judged it."""
    place = {recorded.commit: number for number, recorded in enumerate(chain)}
    judged_at = {r.entry.version: number for number, r in enumerate(chain) if r.entry.kind == "judged"}
    for version, claim in claims.items():
        if claim.head in (None, NO_LEDGER):
            continue
        if claim.head not in place:
            other = difference(model, chain, str(claim.head), objects)
            what = f"the receipt of v{version} names the entry {str(claim.head)[:12]}, which is not in it{other}"
            yield Finding(what, fix_by_fetching(model))
        elif place[str(claim.head)] >= judged_at.get(version, len(chain)):
            yield Finding(
                f"the receipt of v{version} names the entry {str(claim.head)[:12]}, which comes after its own"
            )


def difference(model: str, chain: list[Recorded], head: str, objects: Objects) -> str:
    """The first entry that is another than in the chain that ends at `head`, as the end of a sentence; "" where git does not
    have that chain any more."""
    try:
        other = read_chain(model, head, objects)
    except LedgerBroken:
        return ""
    for number, expected in enumerate(other):
        if number >= len(chain):
            return f": {expected} was dropped"
        entry = chain[number]
        if entry.commit != expected.commit:
            ours, theirs = asdict(entry.entry), asdict(expected.entry)
            names = [name for name in ours if ours[name] != theirs[name]]
            is_same = not {"kind", "version"} & set(names)
            return (
                f": {entry} has another {', '.join(names) or 'commit'} than {expected}"
                if is_same
                else (f": {entry} is in the place of {expected}")
            )
    return ""


def fix_by_fetching(model: str) -> str:
    """Fetch the ledger, also where git has another history of it here."""
    ref = ledger_ref(model)
    return f"{FETCH}; if git rejects that, take it as it is there: git fetch origin '+{ref}:{ref}'"
