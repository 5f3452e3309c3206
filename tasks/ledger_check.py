"""Whether the ledger follows: what each entry says is confirmed by the entries before it, by the tag and the receipt of its
version, by the receipts that name an entry, and by what this clone saw before.

    chain = read_verified("strop-model")     # every command that answers from the ledger; two processes of git

The audit looks at every receipt (`receipt_findings`) and at the registry, too. docs/decisions/0018-ledger-anchors.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tasks import paths
from tasks.files import content_digest, read_json
from tasks.git_objects import ObjectDamaged, Objects
from tasks.ledger_chain import (
    FETCH,
    SEEN,
    LedgerBroken,
    Recorded,
    Refs,
    broken,
    ledger_ref,
    note_head,
    read_chain,
    read_refs,
    seen_head,
)
from tasks.ledger_entries import Entry, champions_of

OF_VERSION = ("weights_digest", "receipt", "verdict", "dataset", "passed", "test_epoch", "test_rows", "commit")
"""What an entry says of its version: the same in every entry of that version."""
MANY = 30
NO_LEDGER = "none"
_LINE = re.compile(r"^(receipt|ledger) ([0-9a-f]+|none)$", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    what: str
    fix: str | None = None


@dataclass(frozen=True)
class Claim:
    """What the commit of a version says."""

    commit: str
    receipt: str | None = None
    head: str | None = None
    """The ledger's newest entry when the version was registered, `none`, or None where that was not recorded."""


def version_message(subject: str, receipt: str, head: str | None) -> str:
    """The message of a version's commit, which its tag points at: it anchors the ledger as it was."""
    return f"{subject}\n\nreceipt {receipt}\nledger {head or NO_LEDGER}\n"


def read_verified(model: str) -> list[Recorded]:
    """Every entry, the oldest first.

    Raises:
        LedgerBroken: an entry, a tag or the ledger itself is missing, damaged, or not what the others say.
    """
    refs = read_refs(model)
    with Objects() as objects:
        is_long = len(refs.versions) > MANY
        chain = read_chain(model, refs.head, objects, is_long)
        objects.read_ahead(list(refs.versions.values()) if is_long else [])
        for finding in findings(model, chain, refs, objects):
            raise broken(model, finding.what, finding.fix)
    if chain:
        note_head(model, refs.head)
    return chain


def findings(model: str, chain: list[Recorded], refs: Refs, objects: Objects) -> Iterator[Finding]:
    """Whatever does not follow, without the registry and without the receipts of old versions."""
    try:
        claims = {version: _claim(oid, objects) for version, oid in sorted(refs.versions.items())}
        if not chain:
            yield from _missing(model, claims, refs)
            return
        yield from order_findings(chain)
        yield from _seen_findings(model, chain, refs, objects)
        yield from _ref_findings(model, chain, refs, claims)
        yield from anchor_findings(model, chain, claims, objects)
        for recorded in _newest(chain):
            claim = claims.get(recorded.entry.version)
            if claim and claim.receipt:  # else it is no commit of a version
                yield from receipt_findings(recorded, claim.commit, objects)
    except ObjectDamaged as error:
        yield Finding(error.what, error.fix)


def order_findings(chain: list[Recorded]) -> Iterator[Finding]:
    """A version is judged once, then perhaps promoted; only what served before is rolled back to."""
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
            if entry.kind == "rolled_back" and entry.version not in [e.version for e in champions_of(before)[:-1]]:
                yield Finding(f"its entry {recorded} goes back to a version that did not serve before")
        before.append(entry)


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
            yield Finding(what, _forced(model))
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


def receipt_of(commit: str, objects: Objects) -> dict[str, Any] | None:
    """The receipt in a version's commit. Raises ObjectDamaged where it cannot be read."""
    result = objects.find(f"{commit}:{paths.RECEIPT.as_posix()}")
    if result is None:
        return None
    try:
        receipt: dict[str, Any] = json.loads(result.data)
    except ValueError as error:
        raise ObjectDamaged(result.oid, f"is no receipt ({error})") from error
    return receipt


def claims_of(refs: Refs, objects: Objects) -> dict[int, Claim]:
    """What the commit of each version says. Raises ObjectDamaged."""
    return {version: _claim(oid, objects) for version, oid in sorted(refs.versions.items())}


def _claim(oid: str, objects: Objects) -> Claim:
    commit = objects.commit(oid)
    claimed = dict(_LINE.findall(commit.message))
    return Claim(commit.oid, claimed.get("receipt"), claimed.get("ledger"))


def _missing(model: str, claims: dict[int, Claim], refs: Refs) -> Iterator[Finding]:
    """There is no ledger: were there versions?"""
    has_looked, head = refs.seen
    if head is not None:
        put_back = f"or put it back, if git still has the entry: git update-ref {ledger_ref(model)} {head}"
        yield Finding(f"is gone: this clone saw its entry {head[:12]}", f"{FETCH}; {put_back}")
    named = [(version, c.head) for version, c in claims.items() if c.head not in (None, NO_LEDGER)]
    if named:
        version, anchor = named[-1]
        yield Finding(f"is not here, but the receipt of v{version} names its entry {str(anchor)[:12]}", FETCH)
    ours = [(version, claim) for version, claim in claims.items() if claim.receipt is not None]
    # a registration that was killed between the tag and its entry: this clone began it, and no other version
    if ours and not has_looked and ours[-1][1].receipt != _receipt_on_disk():
        yield Finding(f"is not here, but v{ours[-1][0]} of {model} is registered", FETCH)


def _receipt_on_disk() -> str | None:
    try:
        return content_digest(read_json(paths.RECEIPT))
    except (OSError, ValueError):
        return None


def _seen_findings(model: str, chain: list[Recorded], refs: Refs, objects: Objects) -> Iterator[Finding]:
    head = refs.seen[1]
    if head is not None and head not in {recorded.commit for recorded in chain}:
        put_back = f"git update-ref {ledger_ref(model)} {head}"
        fix = (
            f"See it: git log {head}. Put it back: {put_back}; or, if that is meant, forget that it was seen: rm {SEEN}"
        )
        other = difference(model, chain, head, objects)
        yield Finding(f"the entry {head[:12]}, which this clone saw in it, is not in it any more{other}", fix)


def _ref_findings(model: str, chain: list[Recorded], refs: Refs, claims: dict[int, Claim]) -> Iterator[Finding]:
    """What serves, may serve again or waits has a tag, and the commit of every version is the one that was judged.

    Of other versions people may remove the tags: only the audit misses these (`untagged`).
    """
    entries = [recorded.entry for recorded in chain]
    promoted = max((entry.version for entry in entries if entry.kind == "promoted"), default=0)
    needed = {entry.version for entry in champions_of(entries)[-2:]}
    needed |= {entry.version for entry in entries if entry.passed and entry.version > promoted}
    for recorded in chain:
        entry = recorded.entry
        if entry.kind != "judged":
            continue
        claim = claims.get(entry.version)
        if entry.version in needed and entry.version not in refs.tagged:
            yield _untagged(model, recorded)
        elif claim and entry.commit and claim.commit != entry.commit:
            yield Finding(
                f"its entry {recorded} names the commit {entry.commit[:12]}, but v{entry.version} is at {claim.commit[:12]}",
                f"See both: git show {entry.commit[:12]}; git show {claim.commit[:12]}",
            )
        elif claim and claim.receipt and claim.receipt != entry.receipt:
            yield Finding(
                f"its entry {recorded} names the receipt {entry.receipt[:12]}, but v{entry.version} has {claim.receipt[:12]}"
            )


def untagged(model: str, chain: list[Recorded], refs: Refs) -> Iterator[Finding]:
    """Versions that passed or served and have no tag."""
    served = {recorded.entry.version for recorded in chain if recorded.entry.kind != "judged"}
    for recorded in chain:
        entry = recorded.entry
        if entry.kind == "judged" and (entry.passed or entry.version in served) and entry.version not in refs.tagged:
            yield _untagged(model, recorded)


def _untagged(model: str, recorded: Recorded) -> Finding:
    tag, commit = f"{model}@v{recorded.entry.version}", recorded.entry.commit
    again = f"; or, if git still has its commit: git tag {tag} {commit}" if commit else ""
    return Finding(f"its entry {recorded} is about a version whose tag {tag} is not here", f"{FETCH}{again}")


def _newest(chain: list[Recorded]) -> list[Recorded]:
    """The entries that judged the newest version and the champion: no receipt may anchor them yet."""
    judgements = {recorded.entry.version: recorded for recorded in chain if recorded.entry.kind == "judged"}
    reigns = champions_of([recorded.entry for recorded in chain])
    versions = {*list(judgements)[-1:], *(entry.version for entry in reigns[-1:])}
    return [judgements[version] for version in sorted(versions) if version in judgements]


def _forced(model: str) -> str:
    ref = ledger_ref(model)
    return f"{FETCH}; if git rejects that, take it as it is there: git fetch origin '+{ref}:{ref}'"


def registry_findings(
    model: str, chain: list[Recorded], registered: Collection[int], anchors: Mapping[int, Collection[str]]
) -> Iterator[Finding]:
    """What the registry knows of the ledger: a version's tags name the entries that judged it and put it into service.

    Its tags must have been read before the ledger was: they are set after an entry is appended.

    Args:
        registered: the versions that Strop registered there, as far as that is known.
        anchors: version → the entries that its tags name.
    """
    known = {recorded.commit: recorded.entry.version for recorded in chain}
    for version, commits in sorted(anchors.items()):
        for commit in sorted(commits):
            if commit not in known:
                what = "is not here, though" if not chain else "lacks an entry:"
                with Objects() as objects:
                    other = difference(model, chain, commit, objects) if chain else ""
                yield Finding(f"{what} the registry has {commit[:12]} at v{version}{other}", _forced(model))
            elif known[commit] != version:
                yield Finding(f"its entry {commit[:12]} is of v{known[commit]}, but the registry has it at v{version}")
    has_looked, _ = seen_head(model)
    if registered and not chain and not has_looked and not any(anchors.values()):
        yield Finding(f"is not here, though v{max(registered)} of {model} is registered", FETCH)
