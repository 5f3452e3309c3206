"""Whether the ledger is what tags, this clone and the registry know of it: nothing that one of them saw is missing from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from tasks import paths
from tasks.model_store.ledger_chain import FETCH, SEEN, Recorded, Refs, ledger_ref, seen_head
from tasks.model_store.ledger_claims import NO_LEDGER, Claim
from tasks.model_store.ledger_entries import champions_of
from tasks.model_store.ledger_rules import Finding, difference, fix_by_fetching
from tasks.runtime.files import content_digest, read_json
from tasks.vcs.git_objects import Objects


def missing_findings(model: str, claims: dict[int, Claim], refs: Refs) -> Iterator[Finding]:
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


def seen_findings(model: str, chain: list[Recorded], refs: Refs, objects: Objects) -> Iterator[Finding]:
    """The newest entry that this clone saw is still in the chain."""
    head = refs.seen[1]
    if head is not None and head not in {recorded.commit for recorded in chain}:
        put_back = f"git update-ref {ledger_ref(model)} {head}"
        fix = (
            f"See it: git log {head}. Put it back: {put_back}; or, if that is meant, forget that it was seen: rm {SEEN}"
        )
        other = difference(model, chain, head, objects)
        yield Finding(f"the entry {head[:12]}, which this clone saw in it, is not in it any more{other}", fix)


def ref_findings(model: str, chain: list[Recorded], refs: Refs, claims: dict[int, Claim]) -> Iterator[Finding]:
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
                yield Finding(f"{what} the registry has {commit[:12]} at v{version}{other}", fix_by_fetching(model))
            elif known[commit] != version:
                yield Finding(f"its entry {commit[:12]} is of v{known[commit]}, but the registry has it at v{version}")
    has_looked, _ = seen_head(model)
    if registered and not chain and not has_looked and not any(anchors.values()):
        yield Finding(f"is not here, though v{max(registered)} of {model} is registered", FETCH)
