"""The certificates of the people and machines whose signatures count.

    trusted = read_trusted(settings)
    trusted.by_fingerprint(fingerprint)      # certificates with this key: several after a renewal

A certificate is trusted because its file is in the folder; its issuer is not considered. docs/decisions/0038-signatures.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import SigningError
from tasks.runtime.run_origin import project
from tasks.signing.settings import SigningSettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

PATTERNS = ("*.pem", "*.crt")
_FIX = "See docs/security.md, Signatures"


@dataclass(frozen=True)
class TrustedKey:
    owner: str
    """The common name (CN) of the certificate."""
    file: Path
    fingerprint: str
    not_before: datetime
    not_after: datetime
    public_key: EllipticCurvePublicKey

    def is_valid_at(self, moment: datetime) -> bool:
        return self.not_before <= moment <= self.not_after


@dataclass(frozen=True)
class TrustedKeys:
    folder: Path
    keys: tuple[TrustedKey, ...]

    def by_fingerprint(self, fingerprint: str) -> list[TrustedKey]:
        """The certificates of a key, the one that is valid longest last."""
        of_key = [key for key in self.keys if key.fingerprint == fingerprint]
        return sorted(of_key, key=lambda key: key.not_after)


def trusted_folder(settings: SigningSettings) -> Path:
    """The folder in the project, not in the snapshot that a run works on."""
    return project() / Path(settings.trusted).expanduser()


def read_trusted(settings: SigningSettings) -> TrustedKeys:
    """Every trusted certificate; none if there is no folder.

    Raises:
        SigningError: a file is no certificate with a key that model-signing supports.
    """
    folder = trusted_folder(settings)
    files = sorted(file for pattern in PATTERNS for file in folder.glob(pattern))
    return TrustedKeys(folder, tuple(_read(file) for file in files))


def _read(file: Path) -> TrustedKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import load_pem_x509_certificate
    from cryptography.x509.oid import NameOID

    from tasks.signing.bundle import CURVES, fingerprint_of

    try:
        content = file.read_bytes()
    except OSError as error:
        raise SigningError(f"cannot be read ({error.strerror})", where=str(file), fix="Fix its permissions") from error
    if b"PRIVATE KEY-----" in content:
        fix = "Move it out of the project, and make a new key if it was ever committed"
        raise SigningError("is a private key, in the folder of the trusted certificates", where=str(file), fix=fix)
    if b"BEGIN PUBLIC KEY" in content:
        what = "is a public key, which has neither an owner nor an end: a certificate is needed"
        raise SigningError(what, where=str(file), fix=_FIX)
    if content.count(b"BEGIN CERTIFICATE-----") > 1:
        what = "has several certificates, of which only the first would count"
        raise SigningError(what, where=str(file), fix="Put each that should count into a file of its own")
    try:
        certificate = load_pem_x509_certificate(content)
        key = certificate.public_key()
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        dates = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except Exception as error:  # ValueError, or one of cryptography's own
        what = f"is no certificate ({type(error).__name__})"
        raise SigningError(what, where=str(file), fix=f"Restore it, or make it again. {_FIX}") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        what = f"has no key on one of the curves {', '.join(CURVES)}, which model-signing needs"
        raise SigningError(what, where=str(file), fix=_FIX)
    return TrustedKey(" ".join(names) or file.stem, file, fingerprint_of(key), *dates, key)
