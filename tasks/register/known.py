"""The versions of a model as git records them: ledger entries, tags, and the receipts in version commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.model_store.ledger_chain import read_refs
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_entries import Entry
from tasks.model_store.versions import commit_of, receipt_at
from tasks.register.logged_files import files_tag
from tasks.register.version_page import page_at, version_page
from tasks.runtime.files import content_digest
from tasks.tracking.tags import (
    COMMIT_TAG,
    JUDGED_TAG,
    LEDGER_TAG,
    PROMOTED_TAG,
    RETIRED_TAG,
    VersionFacts,
    facts_of,
    version_tags,
)


@dataclass(frozen=True)
class VersionRecord:
    """A version as the registry should hold it."""

    number: int
    key: str
    """Digest of its receipt."""
    weights: str
    tags: dict[str, str]
    commit: str | None
    """None where retention removed the ref of a refused candidate."""
    receipt: dict[str, Any] | None
    page: str | None
    """Its description; None where the receipt is lost."""
    retired: str = ""
    """Who retired it, when and why: its files were removed, and are not restored."""


def versions_in_git(model: str) -> dict[int, VersionRecord]:
    """Number → version, for every version with a verdict or a commit."""
    judgements: dict[int, Entry] = {}
    anchors: dict[int, dict[str, str]] = {}
    """Version → the tags about its verdict, and about the newest decision on it."""
    for node in read_verified(model):
        entry = node.entry
        if entry.kind == "judged":
            judgements[entry.version] = entry
            anchors.setdefault(entry.version, {})[JUDGED_TAG] = node.commit
        elif entry.decides or entry.kind == "retired":
            name = RETIRED_TAG if entry.kind == "retired" else PROMOTED_TAG
            anchors.setdefault(entry.version, {}).update({LEDGER_TAG: node.commit, name: entry.approval})
    versions = {}
    for number in sorted({*judgements, *read_refs(model).versions} - {0}):
        commit, judgement = commit_of(model, number), judgements.get(number)
        receipt = receipt_at(commit) if commit else None
        if receipt is not None:
            facts = facts_of(receipt, content_digest(receipt))
        elif judgement is not None:
            facts = VersionFacts(
                judgement.receipt, judgement.weights_digest, judgement.dataset, judgement.gate, receipt=None
            )
        else:  # a tag with such a name that Strop did not create
            continue
        of_commit = {COMMIT_TAG: commit, **files_tag(commit)} if commit else {}
        tags = {**version_tags(facts), **of_commit, **anchors.get(number, {})}
        page = None if commit is None or receipt is None else page_at(commit) or version_page(receipt, model, number)
        versions[number] = VersionRecord(
            number, facts.receipt_digest, facts.weights, tags, commit, receipt, page, tags.get(RETIRED_TAG, "")
        )
    return versions
