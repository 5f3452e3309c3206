"""The versions of a model as git records them: ledger entries, tags, and the receipts in version commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.model_store.ledger import Entry, ledger_ref, read_ledger
from tasks.model_store.versions import commit_of, receipt_at, refused_ref, tag_name
from tasks.register.logged_files import files_tag
from tasks.runtime.files import content_digest
from tasks.tracking.tags import COMMIT_TAG, JUDGED_TAG, LEDGER_TAG, RETIRED_TAG, VersionFacts, facts_of, version_tags
from tasks.vcs import git


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
    retired: str = ""
    """Who retired it, when and why: its files were removed, and are not restored."""


def versions_in_git(model: str) -> dict[int, VersionRecord]:
    """Number → version, for every version with a verdict or a commit."""
    entries = {entry.version: entry for entry in read_ledger(model) if entry.kind == "judged"}
    anchors = _anchors(model)
    versions = {}
    for number in sorted({*entries, *_numbers_in_refs(model)}):
        commit = commit_of(model, number)
        receipt = receipt_at(commit) if commit else None
        version = _version_record(number, entries.get(number), commit, receipt, anchors.get(number, {}))
        if version:
            versions[number] = version
    return versions


def _version_record(
    number: int, entry: Entry | None, commit: str | None, receipt: dict[str, Any] | None, anchors: dict[str, str]
) -> VersionRecord | None:
    if receipt is not None:
        facts = facts_of(receipt, content_digest(receipt))
    elif entry is not None:
        facts = VersionFacts(entry.receipt, entry.weights_digest, entry.dataset, entry.gate, None)
    else:  # a tag with such a name that Strop did not create
        return None
    of_commit = {COMMIT_TAG: commit, **files_tag(commit)} if commit else {}
    tags = {**version_tags(facts), **of_commit, **anchors}
    retired = tags.get(RETIRED_TAG, "")
    return VersionRecord(number, facts.receipt_digest, facts.weights, tags, commit, receipt, retired)


def _anchors(model: str) -> dict[int, dict[str, str]]:
    """Version → the tags that name its ledger entries: the verdict, and the newest decision of a person or the flow about it."""
    if git.resolve(ledger_ref(model)) is None:
        return {}
    commits = git.run("rev-list", "--first-parent", "--reverse", ledger_ref(model)).split()
    tags: dict[int, dict[str, str]] = {}
    for commit, entry in zip(commits, read_ledger(model), strict=True):
        name = JUDGED_TAG if entry.kind == "judged" else LEDGER_TAG
        tags.setdefault(entry.version, {})[name] = commit
        if entry.kind == "retired":
            tags[entry.version][RETIRED_TAG] = entry.approval
    return tags


def _numbers_in_refs(model: str) -> set[int]:
    prefixes = (f"refs/tags/{tag_name(model, 0)}"[:-1], refused_ref(model, 0)[:-1])
    names = [*git.refs_below("refs/tags"), *git.refs_below("refs/strop/refused")]
    endings = [name.removeprefix(prefix) for prefix in prefixes for name in names if name.startswith(prefix)]
    return {int(ending) for ending in endings if ending.isdecimal() and ending != "0"}
