"""The registry's version of a candidate: one for its receipt, whose logged model has its weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tasks.errors import RegistryError
from tasks.register import logged_model
from tasks.register.evaluated_rows import read_evaluated
from tasks.register.logged_files import reusable_model
from tasks.register.mlflow_run import complete_run
from tasks.register.withdrawal import withdraw
from tasks.tracking.model_versions import Version
from tasks.tracking.registry import Registry
from tasks.tracking.tags import RECEIPT_TAG, facts_of, version_tags

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Each fails only if retention on another machine begins to remove the files of the model within the same second."""


def obtain_version(registry: Registry, receipt: dict[str, Any], key: str, kept: Path) -> int:
    """The number of the version with this receipt; created if it is missing.

    Args:
        key: the receipt's digest.
        kept: the folder with the files of the model.
    """
    for _ in range(ATTEMPTS):
        version = _only_version(registry, key) or _create(registry, receipt, key, kept)
        if registry.is_complete(version.source, receipt["weights"]):
            return version.version
        logger.warning(f"register: the files of v{version.version} were removed meanwhile; it is registered again")
        withdraw(registry, version.version)
    fix = "See that no `strop gc` runs on another machine, then run again"
    raise RegistryError("the files of the logged model are removed again and again", where=registry.address, fix=fix)


def _create(registry: Registry, receipt: dict[str, Any], key: str, kept: Path) -> Version:
    run_id = complete_run(registry, receipt, key)
    weights = receipt["weights"]
    source = reusable_model(registry, weights, kept)
    if source is None:
        evaluated = read_evaluated(Path(), receipt)
        if evaluated is None:
            what = "no predictions of the candidate are stored, so the reloaded model is compared by the logits of one text"
            logger.warning(f"register: {what}")
        source = logged_model.log_in_subprocess(run_id, kept, weights, evaluated=evaluated)
    number = registry.create_version(source, run_id, version_tags(facts_of(receipt, key)))
    return _only_version(registry, key) or registry.version(number)


def _only_version(registry: Registry, key: str) -> Version | None:
    """The version with this receipt, the oldest if there are several: MLflow's client repeats a request whose answer was lost, and
    the server may have obeyed both. The others are removed."""
    versions = [version for version in registry.versions() if version.tags.get(RECEIPT_TAG) == key]
    for version in versions[1:]:
        registry.delete_version(version.version)
    return versions[0] if versions else None
