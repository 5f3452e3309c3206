"""What the commit of a version says of the ledger and of its receipt, and the receipt that it holds."""

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
    """What the commit of a version says."""

    commit: str
    receipt: str | None = None
    head: str | None = None
    """The ledger's newest entry when the version was registered, `none`, or None where that was not recorded."""


def version_message(subject: str, receipt: str, head: str | None) -> str:
    """The message of a version's commit, which its tag points at: it anchors the ledger as it was."""
    return f"{subject}\n\nreceipt {receipt}\nledger {head or NO_LEDGER}\n"


def claims_of(refs: Refs, objects: Objects) -> dict[int, Claim]:
    """What the commit of each version says. Raises ObjectDamaged."""
    return {version: _claim(oid, objects) for version, oid in sorted(refs.versions.items())}


def _claim(oid: str, objects: Objects) -> Claim:
    commit = objects.commit(oid)
    claimed = dict(_LINE.findall(commit.message))
    return Claim(commit.oid, claimed.get("receipt"), claimed.get("ledger"))


def receipt_of(commit: str, objects: Objects) -> dict[str, Any] | None:
    """The receipt in a version's commit. Raises ObjectDamaged where it cannot be read."""
    result = objects.find(f"{commit}:{paths.RECEIPT.as_posix()}")
    if result is None:
        return None
    try:
        receipt: dict[str, Any] = json.loads(result.data)
    except (ValueError, RecursionError) as error:
        raise ObjectDamaged(result.oid, f"is no receipt ({error})") from error
    return receipt
