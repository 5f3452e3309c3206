"""Rebuilds the registry from tags, receipts, the ledger and DVC: the same version numbers, tags, aliases, runs and models.

    result = rebuild(config)

Each step is idempotent: a rebuild that was killed can be repeated; with nothing missing, it changes nothing.
Nothing in the registry is removed: a damaged file, or versions of another history, are renamed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import RegistryError
from tasks.model_store.approvals import approvals_of, record_approvals
from tasks.model_store.ledger import aliases_of, note_mirrored, now, read_ledger
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.signatures import require_signed_champion
from tasks.register import logged_model
from tasks.register.known import VersionRecord, versions_in_git
from tasks.register.logged_files import reusable_model
from tasks.register.mlflow_run import complete_run
from tasks.register.restore import RestoredVersion, restore
from tasks.register.version_page import describe
from tasks.runtime.files import content_digest, read_object
from tasks.tracking.model_versions import Version
from tasks.tracking.registry import Registry, open_registry, tracking_uri
from tasks.tracking.sqlite_setup import set_damaged_file_aside
from tasks.tracking.tags import DATASET_TAG, RECEIPT_TAG, RESTORED_TAG, WEIGHTS_TAG
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)


@dataclass
class RebuildResult:
    made: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    """Versions that existed already."""
    missing: dict[int, list[str]] = field(default_factory=dict)
    """Version → the parts that could not be restored."""
    aside: str | None = None
    """The new name of the damaged file, or of the other model."""


def rebuild(config: PipelineConfig, replace: bool = False) -> RebuildResult:
    """Creates everything that the registry lacks.

    Args:
        replace: renames a model whose versions differ from the receipts, and rebuilds all versions.

    Raises:
        RegistryError: git has no version, or the registry has other versions than git; nothing was changed then.
    """
    from filelock import FileLock

    git.require_repository()
    with FileLock(paths.LOCKS / "register.lock"):
        model = config.register_.model_name
        versions = versions_in_git(model)
        if not versions:
            fix = "Fetch them: git fetch origin --tags 'refs/strop/*:refs/strop/*'"
            raise RegistryError(f"git has neither a ledger nor tags of {model}", where=str(Path.cwd()), fix=fix)
        result = RebuildResult(aside=set_damaged_file_aside(tracking_uri(config)))
        registry = open_registry(config)
        if difference := _difference(registry.versions(), versions):
            if not replace:
                fix = (
                    "Name another registry in register.tracking_uri; or rename the present versions and "
                    "rebuild all: strop registry rebuild --replace"
                )
                raise RegistryError(f"is not the registry of {model}: {difference}", where=registry.address, fix=fix)
            result.aside = f"{model}.before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            registry.put_aside(result.aside)
            registry = open_registry(config)
        entries = read_ledger(model)
        for version in versions.values():
            _obtain(registry, version, versions, result)
            if approvals := approvals_of(entries, version.number):
                record_approvals(registry, registry.version(version.number), approvals)
        _set_aliases(config, registry)
        return result


def _difference(registered: list[Version], in_git: dict[int, VersionRecord]) -> str | None:
    """The first difference between the registry's versions and git's; versions that are missing at the end are none."""
    present = [version for version in registered if not _is_leftover(version, in_git)]
    for version in present:
        receipt, expected = version.tags.get(RECEIPT_TAG, "none"), in_git.get(version.version)
        if expected is None and receipt == content_digest(read_object(paths.RECEIPT)):
            continue  # an interrupted registration; the next run completes it
        if expected is None:
            return f"it has v{version.version}, which git does not have"
        if receipt != expected.key:
            return f"its v{version.version} has the receipt {receipt[:12]}, git has {expected.key[:12]}"
    present_numbers = {version.version for version in present}
    for number in in_git:
        if number not in present_numbers and number < max(present_numbers, default=0):
            return f"v{number} was deleted from it, and MLflow never reuses a number"
    return None


def _is_leftover(version: Version, in_git: dict[int, VersionRecord]) -> bool:
    """Whether a killed rebuild left this version: it tried a later version while MLflow's next number was still lower."""
    later = [other.number for other in in_git.values() if other.key == version.tags.get(RECEIPT_TAG)]
    return version.version not in in_git and any(number > version.version for number in later)


def _obtain(
    registry: Registry, version: VersionRecord, in_git: dict[int, VersionRecord], result: RebuildResult
) -> None:
    """Creates or completes one version."""
    registered = registry.versions()
    for leftover in registered:
        if _is_leftover(leftover, in_git):
            registry.delete_version(leftover.version)
    existing = next((candidate for candidate in registered if candidate.version == version.number), None)
    if existing is not None:
        _complete(registry, version, existing, result)
        return
    with TemporaryDirectory(prefix="strop-rebuild-") as folder:
        restored = restore(version, Path(folder))
        run_id = _obtain_run(registry, version, restored)
        source = _obtain_model(registry, version, restored, run_id)
        _create_at(registry, version, source, run_id)
        _describe(registry, version)
    _report(registry.model, version.number, restored, result)


def _complete(registry: Registry, version: VersionRecord, existing: Version, result: RebuildResult) -> None:
    """Completes an existing version: its tags, and the lost files of its model and run."""
    changed = {key: value for key, value in version.tags.items() if existing.tags.get(key) != value}
    registry.set_version_tags(version.number, changed)
    _describe(registry, version)
    lacks_model = not registry.has_weights(existing.source)
    lacks_files = version.receipt is not None and not registry.has_file(existing.run_id, paths.RECEIPT.name)
    if (not lacks_model or version.retired) and not lacks_files:
        result.kept.append(version.number)
        if version.retired:
            result.missing[version.number] = [f"its model: {version.retired}"]
        return
    with TemporaryDirectory(prefix="strop-rebuild-") as folder:
        restored = restore(version, Path(folder))
        _obtain_run(registry, version, restored)
        if lacks_model and (restored.model is None or version.receipt is None):
            result.kept.append(version.number)
            result.missing[version.number] = restored.missing
            return
        if lacks_model:
            _restore_files(registry, version, existing, restored)
    _report(registry.model, version.number, restored, result)


def _describe(registry: Registry, version: VersionRecord) -> None:
    if version.page is not None:
        describe(registry, version.number, version.page)


def _restore_files(registry: Registry, version: VersionRecord, existing: Version, restored: RestoredVersion) -> None:
    """Logs the model again and copies its files to the lost ones: a version keeps its source."""
    assert restored.model is not None
    assert version.receipt is not None
    source = logged_model.log_in_subprocess(existing.run_id, restored.model, version.weights, version.receipt["base"])
    registry.copy_files(source, existing.source)
    registry.share_weights(existing.source, restored.model)
    for other in registry.versions():
        if other.source == existing.source:  # versions of equal weights share a model
            registry.set_version_tags(other.version, {RESTORED_TAG: now()})
    registry.delete_model(source)


def _report(model: str, number: int, restored: RestoredVersion, result: RebuildResult) -> None:
    result.made.append(number)
    logger.info(f"registry: {model} v{number} rebuilt")
    if restored.missing:
        result.missing[number] = restored.missing
        logger.warning(f"registry: not restored for v{number}: {'; '.join(restored.missing)}")


def _obtain_run(registry: Registry, version: VersionRecord, restored: RestoredVersion) -> str:
    if version.receipt is not None:
        return complete_run(registry, version.receipt, version.key, restored.root)
    names = (RECEIPT_TAG, WEIGHTS_TAG, DATASET_TAG)
    tags = {name: version.tags[name] for name in names}
    run_id = registry.find_run(RECEIPT_TAG, version.key) or registry.create_run("candidate", tags)
    registry.end_run(run_id)
    return run_id


def _obtain_model(registry: Registry, version: VersionRecord, restored: RestoredVersion, run_id: str) -> str:
    """The address of the model with these files: versions with equal files share it."""
    source = reusable_model(registry, version.weights, restored.model)
    if source is not None:
        return source
    if restored.model is None:
        return registry.log_empty_model(run_id, version.weights)
    assert version.receipt is not None
    return logged_model.log_in_subprocess(run_id, restored.model, version.weights, version.receipt["base"])


def _create_at(registry: Registry, version: VersionRecord, source: str, run_id: str) -> None:
    """Creates the version with its number. MLflow counts up: versions are created and deleted until the number is reached."""
    number = 0
    while number < version.number:
        number = registry.create_version(source, run_id, version.tags)
        if number != version.number:
            registry.delete_version(number)
    if number > version.number:
        fix = "Rename the present versions and rebuild all: strop registry rebuild --replace"
        raise RegistryError(
            f"gives the number {number}, where v{version.number} of {registry.model} is missing: versions were deleted from it",
            where=registry.address,
            fix=fix,
        )


def _set_aliases(config: PipelineConfig, registry: Registry) -> None:
    chain = read_verified(registry.model)
    require_signed_champion(config, chain)
    aliases = aliases_of([node.entry for node in chain])
    for name, number in aliases.items():
        if number is None:
            registry.remove_alias(name)
        elif registry.alias(name) != number:
            registry.set_alias(name, number)
    if aliases["champion"] is not None:
        note_mirrored(registry.model, aliases["champion"])
