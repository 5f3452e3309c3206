"""The tags in the registry: their names, and the table of those that a version gets from its receipt.

A new tag of versions is one entry of VERSION_TAGS, here or added by a plugin (docs/extend.md): `register` sets it, `strop registry
rebuild` sets it on earlier versions, the audit compares it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.errors import ConfigError
from tasks.runtime.plugin_table import PluginTable
from tasks.state.verdict import outcome_of

RECEIPT_TAG = "strop.receipt"
WEIGHTS_TAG = "strop.weights"
DATASET_TAG = "strop.dataset"
VERDICT_TAG = "strop.verdict"
COMMIT_TAG = "strop.commit"
"""The snapshot commit."""
FILES_TAG = "strop.files"
"""Digest of the logged model's files."""
RESTORED_TAG = "strop.restored"
"""On a version whose lost files were logged again: MLflow writes other bytes each time."""
JUDGED_TAG = "strop.judged"
"""The commit of the ledger entry with the verdict on the version."""
LEDGER_TAG = "strop.ledger"
"""The commit of the newest ledger entry that put the version into service, or rejected or retired it, or took its canary back."""
PROMOTED_TAG = "strop.promoted"
"""Who put the version into service, or rejected it, when, and why: as in that entry, for readers of the registry."""
RETIRED_TAG = "strop.retired"
"""Who retired the version, when, and why: `strop gc` removes the files of its model."""
SERVED_TAG = "strop.served."
"""Begins the tag of a served-path check; its end is the digest of the engine, its value `passed` or `failed`."""
ANCHORS = (JUDGED_TAG, LEDGER_TAG)
WRITABLE_TAG = "strop.writable"
"""Written to a version without a receipt, to learn whether this login may write."""

STATE_TAG = "strop.state"
TRIAL_TAG = "strop.trial"
"""`<run of the candidate>/<number of the trial>`."""
TRIAL_STATE_TAG = "strop.trial_state"
TRIAL_MESSAGE_TAG = "strop.told"
"""Why the trial ended."""
WEIGHTS_MISSING_TAG = "strop.weights_missing"
"""On a logged model without files: the digest of the lost weights."""
PARENT_TAG = "mlflow.parentRunId"

RESERVED = ("strop.", "mlflow.")
"""Prefixes that a plugin's tag must not have."""


@dataclass(frozen=True)
class VersionFacts:
    """What is known of a version when its tags are computed."""

    receipt_digest: str
    weights: str
    dataset: str
    outcome: str
    """The gate's verdict: `passed`, `refused` or `inconclusive`."""
    receipt: dict[str, Any] | None
    """None: the version's commit is lost, and the facts are those of the ledger."""


def facts_of(receipt: dict[str, Any], receipt_digest: str) -> VersionFacts:
    return VersionFacts(receipt_digest, receipt["weights"], receipt["dataset"], outcome_of(receipt["verdict"]), receipt)


VERSION_TAGS: PluginTable[Callable[[VersionFacts], str | None]] = PluginTable(
    "registry tag",
    {
        RECEIPT_TAG: lambda version: version.receipt_digest,
        WEIGHTS_TAG: lambda version: version.weights,
        DATASET_TAG: lambda version: version.dataset,
        VERDICT_TAG: lambda version: version.outcome,
    },
    stages=(),
)
"""Tag → its value, which depends on the facts alone; None: the version does not have this tag."""
REQUIRED_TAGS = frozenset(VERSION_TAGS)
"""Every version has these; those of plugins are missing on earlier versions."""


def version_tags(version: VersionFacts) -> dict[str, str]:
    """The tags of a version that follow from its receipt.

    Raises:
        ConfigError: a plugin's tag has a reserved name.
    """
    for name in VERSION_TAGS:
        if name not in REQUIRED_TAGS and name.startswith(RESERVED):
            fix = f"Choose a name in the plugin that does not begin with {' or '.join(RESERVED)}"
            raise ConfigError("the name is reserved", where=f"registry tag `{name}`", fix=fix)
    values = {name: value_of(version) for name, value_of in VERSION_TAGS.items()}
    return {name: str(value) for name, value in values.items() if value is not None}
