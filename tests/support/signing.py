"""Keys with their certificates, made on the spot, and a toy ledger whose versions have a receipt in git."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.toyworld import git as user
from tasks import paths
from tasks.model_store.ledger import Entry, Kind, append_entry, now, read_ledger
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.signatures import check_version
from tasks.register.settings import RegisterSettings
from tasks.runtime.files import content_digest, write_json
from tasks.signing.settings import SigningSettings
from tasks.vcs import git
from tasks.vcs.git_objects import Objects

TRUSTED = Path("keys")


def make_key(
    owner: str,
    folder: Path,
    days: tuple[int, int] = (-1, 365),
    passphrase: str = "",
    trusted: Path | None = TRUSTED,
    curve: ec.EllipticCurve | None = None,
) -> Path:
    """A private key in `folder`, and its certificate among the trusted ones; as `openssl req -x509` makes them.

    Args:
        days: from now until the certificate becomes valid, and until it expires.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(curve or ec.SECP256R1())
    cipher = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
    path = folder / f"{owner}.key"
    path.write_bytes(pem)
    path.chmod(0o600)
    if trusted is not None:
        certify(owner, key, trusted / f"{owner}.pem", days)
    return path


def certify(owner: str, key: ec.EllipticCurvePrivateKey, file: Path, days: tuple[int, int]) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, owner)])
    start, end = (datetime.now(UTC) + timedelta(days=number) for number in days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def settings(key: Path | str = "", *require: str, remote: str = "", trusted: str = "keys") -> Any:
    """The settings that signatures depend on."""
    signing = SigningSettings(key=str(key), require=require, trusted=trusted)  # type: ignore[arg-type]
    return SimpleNamespace(register_=RegisterSettings(model_name="tiny", ledger_remote=remote), signing=signing)


def judge(config: Any, version: int, **values: Any) -> None:
    """A version commit with a receipt, its tag, and the verdict in the ledger."""
    verdict = {"passed": True, "outcome": "passed", "test_epoch": 1, "test_rows": 100, "说明": f"第{version}版"}
    receipt = {"weights": f"{version}" * 64, "dataset": "d.dir", "verdict": verdict}
    write_json(paths.RECEIPT, receipt)
    user("add", "-f", str(paths.RECEIPT))
    user("commit", "-q", "--allow-empty", "-m", f"v{version}\n\nreceipt {content_digest(receipt)}")
    user("tag", f"tiny@v{version}")
    entry = Entry(
        "judged", version, f"{version}" * 64, content_digest(receipt), content_digest(verdict), "d.dir", True, 1, 100,
        "ada", now(), "好", commit=git.head_commit(), outcome="passed",
    )  # fmt: skip
    append_entry(
        "tiny", replace(entry, **values), len(read_ledger("tiny")), config.register_.ledger_remote, config.signing
    )


def decide(config: Any, kind: Kind, version: int, **values: Any) -> None:
    entries = read_ledger("tiny")
    judged = next(entry for entry in entries if entry.version == version)
    entry = replace(judged, **({"kind": kind, "when": now()} | values))
    append_entry("tiny", entry, len(entries), config.register_.ledger_remote, config.signing)


def states(config: Any, version: int = 1) -> list[str]:
    """The state of the version's receipt, then of its entries."""
    return [result.state for result in results(config, version)]


def results(config: Any, version: int = 1) -> list[Any]:
    with Objects() as objects:
        return check_version(config, read_verified("tiny"), version, objects)


def signature_refs() -> list[str]:
    return sorted(git.refs_below("refs/strop/signatures/tiny"))


def files_at(ref: str) -> dict[str, bytes]:
    names = user("ls-tree", "--name-only", ref).split()
    return {name: git.read_at(ref, Path(name)) or b"" for name in names}


def statement_at(ref: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files_at(ref)["statement.json"])
    return content
