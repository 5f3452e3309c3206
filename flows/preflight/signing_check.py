"""The check of the key that signs receipts and ledger entries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from flows.preflight.problem import Problem, warning
from flows.preflight.project import Project

WARN_BEFORE = timedelta(days=30)


def signing(project: Project) -> Iterator[Problem]:
    """The private key can be read, is private, and has a trusted certificate that is valid now and for the next month."""
    from tasks.signing.signer import open_signer

    now = datetime.now(UTC)
    signer = open_signer(project.config.signing, now)
    if signer is None:
        return
    place = project.where("signing", "key")
    if signer.path.stat().st_mode & 0o077:
        yield warning("other users of this machine may read the private key", place, f"chmod 600 {signer.path}")
    left = signer.certificate.not_after - now
    if left < WARN_BEFORE:
        owner, end = signer.certificate.owner, f"{signer.certificate.not_after:%Y-%m-%d}"
        what = f"the key of {owner} expires on {end}: after it, no run can register a version"
        yield warning(what, str(signer.certificate.file), "Make a new one in time: docs/security.md, Signatures")
