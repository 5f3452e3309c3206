"""Which versions are needed, and why: a pure function of the ledger and of what refers to versions.

needed = needed_versions(uses, refused_candidates=3)     # version → reason
removable_versions(uses, needed)                         # the others: their files may be removed
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.model_store.ledger_entries import (
    Entry,
    champion_of,
    champions_of,
    may_retire,
    open_canary,
    rejected_versions,
    retired_versions,
)


@dataclass(frozen=True)
class Uses:
    """The ledger, and everything that refers to a version or to its weights."""

    entries: Sequence[Entry]
    parents: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Version → digests of the weights that its training used: the model that it continues, teachers, reward models."""
    aliases: Mapping[int, str] = field(default_factory=dict)
    """Version → an alias of the registry that points at it."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digest of weights → the file of a worktree that names it: its round, training start or verdict."""
    names: Mapping[int, str] = field(default_factory=dict)
    """A version that a worktree's params.yaml may name → that file."""


def needed_versions(uses: Uses, refused_candidates: int) -> dict[int, str]:
    """Version → why its files stay.

    A version with a reason of the ledger or a reference always stays, and so does every version whose weights its training used.
    """
    needed: dict[int, str] = {}
    for version, reason in (*_by_ledger(uses, refused_candidates), *_by_reference(uses)):
        needed.setdefault(version, reason)
    versions_of: dict[str, set[int]] = {}
    for entry in uses.entries:
        versions_of.setdefault(entry.weights_digest, set()).add(entry.version)
    pending = sorted(needed)
    while pending:
        version = pending.pop()
        for parent in {v for digest in uses.parents.get(version, ()) for v in versions_of.get(digest, ())} - set(
            needed
        ):
            needed[parent] = f"v{version} was trained with it"
            pending.append(parent)
    return dict(sorted(needed.items()))


def removable_versions(uses: Uses, needed: Mapping[int, str]) -> list[int]:
    """The judged versions that nothing needs, among them those that were retired before."""
    return sorted({entry.version for entry in uses.entries if entry.kind == "judged"} - set(needed))


def _by_ledger(uses: Uses, refused_candidates: int) -> Iterator[tuple[int, str]]:
    entries = list(uses.entries)
    champion = champion_of(entries)
    for entry in champions_of(entries):
        yield entry.version, "serves" if entry is champion else "a rollback can return to it"
    for entry in entries:
        if entry.enters_service:
            yield entry.version, "has served"
    if (canary := open_canary(entries)) is not None:
        yield entries[canary].version, "has a canary"
    judged = [entry for entry in entries if entry.kind == "judged"]
    rejected = rejected_versions(entries)
    for entry in judged:
        if entry.passed and entry.version not in rejected:
            yield entry.version, "passed the gate"
    refused = sorted((entry.version for entry in judged if may_retire(entries, entry.version)), reverse=True)
    retired = retired_versions(entries)
    for version in refused[:refused_candidates]:
        if version not in retired:
            yield version, "is one of the newest refused candidates"


def _by_reference(uses: Uses) -> Iterator[tuple[int, str]]:
    judged = {entry.version: entry.weights_digest for entry in uses.entries if entry.kind == "judged"}
    for version, weights in judged.items():
        if alias := uses.aliases.get(version):
            yield version, f"has the alias {alias}"
        if file := uses.digests.get(weights) or uses.names.get(version):
            yield version, f"is named in {file}"
