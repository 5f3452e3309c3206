"""The message of a version commit, which names a ledger entry and a receipt, and the receipt in the commit."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tasks import paths
from tasks.model_store.ledger_chain import Refs
from tasks.vcs.git_objects import ObjectDamaged, Objects

NO_LEDGER = "none"
_LINE = re.compile(r"^(receipt|ledger) ([0-9a-f]+|none)$", re.MULTILINE)


@dataclass(frozen=True)
class Claim:
    """The content of a version commit's message."""

    commit: str
    receipt: str | None = None
    head: str | None = None
    """The newest ledger entry at the time of registration, `none`, or None where it was not recorded."""


def version_message(subject: str, receipt: str, head: str | None) -> str:
    """The message of a version commit: it pins the ledger as it was at registration."""
    return f"{subject}\n\nreceipt {receipt}\nledger {head or NO_LEDGER}\n"


def claims_of(refs: Refs, objects: Objects) -> dict[int, Claim]:
    """Version → the content of its commit's message. Raises ObjectDamaged."""
    return {version: _claim(oid, objects) for version, oid in sorted(refs.versions.items())}


def _claim(oid: str, objects: Objects) -> Claim:
    commit = objects.commit(oid)
    lines = dict(_LINE.findall(commit.message))
    return Claim(commit.oid, lines.get("receipt"), lines.get("ledger"))


def receipt_of(commit: str, objects: Objects) -> dict[str, Any] | None:
    """The receipt in a version commit. Raises ObjectDamaged where it cannot be read."""
    blob = objects.find(f"{commit}:{paths.RECEIPT.as_posix()}")
    if blob is None:
        return None
    try:
        receipt: dict[str, Any] = json.loads(blob.data)
    except (ValueError, RecursionError) as error:
        raise ObjectDamaged(blob.oid, f"is no receipt ({error})") from error
    return receipt
