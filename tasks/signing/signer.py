"""Signs with the private key in `signing.key`, by OpenSSF model-signing.

    signer = open_signer(settings)          # None without a key; raises where it could not sign
    bundle = signer.sign({"statement.json": b"...", "receipt.json": b"..."})

The bundle is what `model_signing verify key` reads. Nothing but the path of the key is ever stored or shown.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tasks.errors import SigningError, one_line
from tasks.runtime.redaction.settings import with_values
from tasks.runtime.run_origin import project
from tasks.signing.settings import PASSPHRASE, SigningSettings
from tasks.signing.trusted import TrustedKey, read_trusted
from tasks.vcs import git

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

INSTALL = "Install it: pip install 'strop[signing]'"


@dataclass(frozen=True)
class Signer:
    path: Path
    certificate: TrustedKey

    def sign(self, files: dict[str, bytes]) -> bytes:
        """The signature file over these files, as model-signing makes it for a folder.

        Raises:
            SigningError: the key was replaced or removed meanwhile, or model-signing failed.
        """
        from tasks.signing.bundle import BundleInvalid, verified_digests

        try:
            bundle = self._sign(files)
            verified_digests(bundle, self.certificate.public_key)
        except (OSError, ValueError, TypeError) as error:
            what = f"could not sign ({one_line(error)})"
            if isinstance(error, BundleInvalid):
                what = f"is not the key of {self.certificate.owner} any more"
            raise SigningError(
                what, where=str(self.path), fix="Nothing was changed. Check the key: strop check"
            ) from error
        return bundle

    def _sign(self, files: dict[str, bytes]) -> bytes:
        from model_signing import signing

        with TemporaryDirectory(prefix="strop-sign-") as folder:
            subject = Path(folder, "signed")
            subject.mkdir()
            for name, content in files.items():
                (subject / name).write_bytes(content)
            # bytes: model-signing 1.1.1 declares `str`, and fails with one
            password: Any = _passphrase_for(self.path.read_bytes())
            config = signing.Config()  # type: ignore[no-untyped-call]
            config.use_elliptic_key_signer(private_key=self.path, password=password).sign(
                subject, Path(folder, "model.sig")
            )
            return Path(folder, "model.sig").read_bytes()


def open_signer(settings: SigningSettings, moment: datetime | None = None) -> Signer | None:
    """The signer; None if `signing.key` is empty.

    Raises:
        SigningError: the key cannot be read or decrypted, could be committed, has no trusted certificate, or that is not valid now.
    """
    if not settings.key:
        return None
    path = key_path(settings)
    _require_outside_git(path)
    public = _public_key(path)
    for name in ("model_signing", "OpenSSL"):
        if importlib.util.find_spec(name) is None:
            raise SigningError(f"signing.key needs the package {name}, which is not installed", fix=INSTALL)
    return Signer(path, _certificate(settings, path, public, moment or datetime.now(UTC)))


def key_path(settings: SigningSettings) -> Path:
    """The path in `signing.key`, with the variables that it names. Raises SigningError if one is not set."""

    def not_set(name: str) -> SigningError:
        fix = f"Set it: export {name}=PATH"
        return SigningError(f"the environment variable {name} is not set", where="signing.key", fix=fix)

    return project() / Path(str(with_values(settings.key, not_set))).expanduser()


def _passphrase_for(key: bytes) -> bytes | None:
    """None for a key without one: the passphrase in the environment may be that of another project's key."""
    return os.environ[PASSPHRASE].encode() if _is_encrypted(key) and os.environ.get(PASSPHRASE) else None


def _is_encrypted(key: bytes) -> bool:
    return b"ENCRYPTED" in key


def _require_outside_git(path: Path) -> None:
    """A key inside the project must be ignored by git."""
    root, resolved = project().resolve(), path.resolve()
    if root not in resolved.parents:
        return
    if git.call("check-ignore", "--quiet", str(resolved)).returncode != 0:
        what = "is inside the project, and git does not ignore it: a private key must not be committed"
        fix = "Move it out, to ~/.config/strop for example, and make a new key if it was ever committed"
        raise SigningError(what, where=str(path), fix=fix)


def _public_key(path: Path) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from tasks.signing.bundle import CURVES

    try:
        content = path.read_bytes()
    except OSError as error:
        fix = "Fix signing.key, or the permissions of the file"
        raise SigningError(f"the private key cannot be read ({error.strerror})", where=str(path), fix=fix) from error
    try:
        key = load_pem_private_key(content, _passphrase_for(content))
    except TypeError as error:
        raise SigningError(
            "the private key has a passphrase", where=str(path), fix=f"Set it: export {PASSPHRASE}=…"
        ) from error
    except Exception as error:  # ValueError, or one of cryptography's own
        if _is_encrypted(content):
            raise SigningError(
                "the passphrase of the private key is wrong", where=str(path), fix=f"Set it: export {PASSPHRASE}=…"
            ) from error
        raise SigningError(
            "is no private key in PEM", where=str(path), fix="See docs/security.md, Signatures"
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        what = f"is not a key on one of the curves {', '.join(CURVES)}, which model-signing needs"
        raise SigningError(what, where=str(path), fix="See docs/security.md, Signatures")
    return key.public_key()


def _certificate(settings: SigningSettings, path: Path, public: EllipticCurvePublicKey, moment: datetime) -> TrustedKey:
    """The certificate of the key that is valid now."""
    from tasks.signing.bundle import fingerprint_of

    trusted = read_trusted(settings)
    certificates = trusted.by_fingerprint(fingerprint_of(public))
    if not certificates:
        what = f"no certificate in {trusted.folder} has this key, so nobody would trust its signatures"
        raise SigningError(what, where=str(path), fix="Add it. See docs/security.md, Signatures")
    if valid := [each for each in certificates if each.is_valid_at(moment)]:
        return valid[-1]
    last = certificates[-1]
    what = f"the key of {last.owner} expired on {last.not_after:%Y-%m-%d %H:%M} UTC"
    if moment < last.not_before:
        what = f"the key of {last.owner} is not valid before {last.not_before:%Y-%m-%d %H:%M} UTC"
    fix = "Make a new key or certificate, and keep this one: it verifies what was signed before"
    raise SigningError(what, where=str(last.file), fix=fix)
