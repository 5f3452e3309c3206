"""Whether a receipt or ledger entry is signed by a trusted key. Pure: no file and no clock is read.

    check_subject(subject, signatures, trusted, now).problem

A signature counts if its bytes are those of a trusted key, its files are those of the subject, and the key was valid at the time in
the signed statement. That time must not be earlier than the ledger entries before it: so an expired key cannot sign new entries
with an old date.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tasks.signing.bundle import BundleInvalid, fingerprint_in, verified_digests
from tasks.signing.refs import BUNDLE, KEY_CHARACTERS, STATEMENT, Signature
from tasks.signing.subject import Result, Subject
from tasks.signing.trusted import TrustedKey, TrustedKeys

CLOCKS_DIFFER_BY = timedelta(hours=1)


def check_subject(subject: Subject, signatures: Iterable[Signature], trusted: TrustedKeys, now: datetime) -> Result:
    """The result for a subject: `invalid` if one of its signatures is, else the best of them."""
    results = [_check(subject, signature, trusted, now) for signature in signatures]
    for state in ("invalid", "valid", "untrusted"):
        if worst := next((result for result in results if result.state == state), None):
            return worst
    return Result(
        subject, "none", f"is not signed. If it should count (strop history): strop sign {subject.facts['version']}"
    )


def _check(subject: Subject, signature: Signature, trusted: TrustedKeys, now: datetime) -> Result:
    try:
        fingerprint = _fingerprint(signature)
        keys = trusted.by_fingerprint(fingerprint)
        if not keys:
            what = f"is signed by a key that is not in {trusted.folder} (sha256 {fingerprint[:12]})"
            fix = f"If it should count, add its certificate; else: strop sign {subject.facts['version']}"
            return Result(subject, "untrusted", f"{what}. {fix}")
        moment = _signed_at(subject, signature, keys[-1], now)
    except BundleInvalid as error:
        again = f"Sign it again: strop sign {subject.facts['version']}"
        remove = (
            f"if the signature is not of your key, remove it, also at the remote: git update-ref -d {signature.ref}"
        )
        return Result(subject, "invalid", f"has an invalid signature: {error}. {again}; {remove}")
    if valid := [key for key in keys if key.is_valid_at(moment)]:
        return Result(subject, "valid", valid[-1].owner)
    key = keys[-1]
    bound = f"it expired on {key.not_after:%Y-%m-%d}"
    if moment < key.not_before:
        bound = f"it is not valid before {key.not_before:%Y-%m-%d}"
    what = f"was signed on {moment:%Y-%m-%d} with the key of {key.owner}, but {bound}"
    return Result(subject, "untrusted", f"{what}. Sign it with another key: strop sign {subject.facts['version']}")


def _fingerprint(signature: Signature) -> str:
    if BUNDLE not in signature.files:
        raise BundleInvalid("git cannot read its files")
    fingerprint = fingerprint_in(signature.files[BUNDLE])
    if not signature.ref.endswith(f"/{fingerprint[:KEY_CHARACTERS]}"):
        raise BundleInvalid("its ref is that of another key")
    return fingerprint


def _signed_at(subject: Subject, signature: Signature, key: TrustedKey, now: datetime) -> datetime:
    """The time in the statement, after everything but the validity of the key was verified. Raises BundleInvalid."""
    files = {name: content for name, content in signature.files.items() if name != BUNDLE}
    digests = verified_digests(signature.files[BUNDLE], key.public_key)
    if digests != {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}:
        raise BundleInvalid("its files are not those that were signed")
    try:
        statement = json.loads(files[STATEMENT])
        moment = datetime.fromisoformat(statement.pop("signed_at")).astimezone(UTC)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BundleInvalid("its statement cannot be read") from error
    if statement != subject.facts or files.keys() != {STATEMENT, subject.file}:
        raise BundleInvalid("it is about something else")
    if files[subject.file] != subject.content:
        raise BundleInvalid("it is about other content")
    if moment < subject.earliest:
        what = f"its time, {moment:%Y-%m-%d %H:%M} UTC, is before that of the ledger, {subject.earliest:%Y-%m-%d %H:%M}"
        raise BundleInvalid(what)
    if moment > max(now, subject.earliest) + CLOCKS_DIFFER_BY:
        raise BundleInvalid(f"its time, {moment:%Y-%m-%d %H:%M} UTC, is in the future")
    return moment
