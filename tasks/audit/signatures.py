"""Audit of the signatures on the receipt and the ledger entries of a version."""

from __future__ import annotations

from tasks.audit.subject import Link, Subject, link
from tasks.model_store.signatures import check_version
from tasks.runtime.plurals import count_of
from tasks.signing.refs import has_signatures


def check_signatures(subject: Subject) -> Link:
    """No signature may be invalid, or by a key that is not trusted; if the audit requires them, none may be missing."""
    settings = subject.config.signing
    if "audit" not in settings.require and not has_signatures(subject.model):
        return link("signatures", [], "none, and none is required", unrecorded=bool(settings.key))
    results = check_version(subject.config, subject.chain, subject.version.version, subject.objects)
    missing = [result for result in results if result.state == "none"]
    problems = [result.problem for result in results if result.state in ("invalid", "untrusted")]
    problems += [result.problem for result in missing] if "audit" in settings.require else []
    owners = sorted({result.detail for result in results if result.state == "valid"})
    if not owners:
        return link("signatures", problems, "none, and none is required", unrecorded=bool(settings.key))
    unsigned = f"; not signed: {', '.join(result.subject.name for result in missing)}" if missing else ""
    whole = f"receipt and {count_of(len(results) - 1, 'entry', 'entries')} signed by {', '.join(owners)}"
    part = f"{len(results) - len(missing)} of {len(results)} signed by {', '.join(owners)}{unsigned}"
    return link("signatures", problems, part if missing else whole, unrecorded=bool(missing))
