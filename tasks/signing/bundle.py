"""A signature file of model-signing (a Sigstore bundle with a DSSE envelope), verified with a public key.

    digests = verified_digests(bundle, public_key)     # {"statement.json": "98ea…", "receipt.json": "ca3d…"}

model-signing verifies the same, but its import takes two seconds, and an audit has two for everything; tests compare both.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""The curves that model-signing supports, with the hash that it uses."""
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class BundleInvalid(ValueError):
    """It is no signature, or not by this key."""


def fingerprint_of(key: ec.EllipticCurvePublicKey) -> str:
    """The id of a public key, as model-signing has it in its bundles: sha256 of the PEM."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def fingerprint_in(bundle: bytes) -> str:
    """The id of the key that a bundle names. Raises BundleInvalid."""
    try:
        return str(json.loads(bundle)["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleInvalid("the signature file cannot be read") from error


def verified_digests(bundle: bytes, key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """Name → sha256 of every signed file.

    Raises:
        BundleInvalid: it is damaged, or was not signed by this key.
    """
    try:
        document = json.loads(bundle)
        envelope = document["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signature,) = envelope["signatures"]
        bytes_ = base64.b64decode(signature["sig"], validate=True)
        if (document["mediaType"], envelope["payloadType"]) != (MEDIA_TYPE, PAYLOAD_TYPE):
            raise BundleInvalid("the signature file is of another kind")
        key.verify(bytes_, _signed_bytes(payload), ec.ECDSA(CURVES[key.curve.name]))
        return _digests(json.loads(payload))
    except InvalidSignature as error:
        raise BundleInvalid("the signature does not match its content") from error
    except BundleInvalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleInvalid("the signature file cannot be read") from error


def _signed_bytes(payload: bytes) -> bytes:
    """What DSSE signs: the payload with its type."""
    return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def _digests(statement: dict[str, Any]) -> dict[str, str]:
    predicate, (subject,) = statement["predicate"], statement["subject"]
    kind = statement["_type"], statement["predicateType"], predicate["serialization"]["method"]
    if kind != (STATEMENT_TYPE, PREDICATE_TYPE, "files"):
        raise BundleInvalid("the signed statement is of another kind")
    resources = predicate["resources"]
    digests = {str(each["name"]): str(each["digest"]) for each in resources}
    if len(digests) != len(resources) or any(each["algorithm"] != "sha256" for each in resources):
        raise BundleInvalid("the signed list of files is of another kind")
    whole = hashlib.sha256(b"".join(bytes.fromhex(each["digest"]) for each in resources)).hexdigest()
    if subject["digest"]["sha256"] != whole:
        raise BundleInvalid("the signed list of files contradicts its digest")
    return digests
