"""Audit of a retired version, whose files retention removed."""

from __future__ import annotations

from tasks.audit.subject import Link, Subject
from tasks.errors import StropError
from tasks.model_store.ledger_entries import retired_versions
from tasks.runtime.plurals import count_of

REMOVED_LINKS = ("weights", "model files", "registry files", "predictions")
"""The links of the files that are removed."""


def is_retired_version(subject: Subject) -> bool:
    try:
        return subject.retirement is not None
    except StropError:  # an unreadable ledger, which has a link of its own
        return False


def check_removed(subject: Subject) -> Link:
    """The registry must have no model for a retired version, unless it is also that of another version, whose audit checks it."""
    entry = subject.retirement
    assert entry is not None
    source, retired = subject.version.source, retired_versions([node.entry for node in subject.chain])
    owners = [v.version for v in subject.registry.versions() if v.source == source and v.version not in retired]
    if owners:
        return Link("files", True, f"{entry.approval}; its model is also that of v{owners[0]}, and stays", removed=True)
    if files := subject.registry.stored_bytes(source):
        what = f"the registry has {count_of(len(files), 'file')} of a model that was {entry.approval}"
        return Link("files", False, f"{what}. Remove them: strop gc")
    return Link("files", True, f"model, rendered rows and predictions: {entry.approval}", removed=True)
