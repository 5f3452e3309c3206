"""Makes the registry again from tags, receipts, the ledger and DVC: the same version numbers, tags, aliases, runs and models.

    rebuilt = rebuild(config)

Each step looks first whether it is done: killed and run again, it goes on; with nothing missing, it changes nothing.
What is in the registry is never removed: a damaged file, or versions of another history, are put aside under another name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tasks import paths
from tasks.errors import RegistryError
from tasks.model_store.ledger import note_mirrored, now, read_ledger
from tasks.model_store.logged_files import RESTORED_TAG
from tasks.register import logged_model
from tasks.register.known import Known, aliases_of, known_versions
from tasks.register.logged_files import model_to_use_again
from tasks.register.mlflow_run import complete_run
from tasks.register.receipt import receipt_digest
from tasks.register.restore import Restored, restore
from tasks.runtime.files import read_json
from tasks.tracking.model_versions import Version
from tasks.tracking.registry import Registry, open_registry, tracking_uri
from tasks.tracking.sqlite_setup import set_damaged_file_aside
from tasks.vcs import git

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


@dataclass
class Rebuilt:
    made: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    """Versions that the registry held already."""
    missing: dict[int, list[str]] = field(default_factory=dict)
    """What could not be restored, by version."""
    aside: str | None = None
    """What was in the way is kept under this name."""


def rebuild(config: PipelineConfig, replace: bool = False) -> Rebuilt:
    """Makes whatever the registry lacks.

    Args:
        replace: puts versions that are not those of the receipts aside, under another name, and makes all again.

    Raises:
        RegistryError: git knows no version, or the registry holds others than git knows; nothing was changed then.
    """
    from filelock import FileLock

    git.require_repository()
    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.LOCKS / "register.lock"):
        model = config.register_.model_name
        known = known_versions(model)
        if not known:
            fix = "Fetch them: git fetch origin --tags 'refs/strop/*:refs/strop/*'"
            raise RegistryError(f"git has neither a ledger nor tags of {model}", where=str(Path.cwd()), fix=fix)
        rebuilt = Rebuilt(aside=set_damaged_file_aside(tracking_uri(config)))
        registry = open_registry(config)
        if difference := _difference(registry.versions(), known):
            if not replace:
                fix = (
                    "Name another registry in register.tracking_uri; or put what is there aside, under another name, and "
                    "make all versions again: strop registry rebuild --replace"
                )
                raise RegistryError(f"is not the registry of {model}: {difference}", where=registry.address, fix=fix)
            rebuilt.aside = f"{model}.before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            registry.put_aside(rebuilt.aside)
            registry = open_registry(config)
        for version in known.values():
            _obtain(registry, version, known, rebuilt)
        _set_aliases(registry)
        return rebuilt


def _difference(versions: list[Version], known: dict[int, Known]) -> str | None:
    """The first way in which the registry's versions are not those that git knows; what is merely missing at the end is none."""
    there = [version for version in versions if not _is_left_over(version, known)]
    for version in there:
        receipt, expected = version.tags.get("strop.receipt", "none"), known.get(version.version)
        if expected is None and receipt == _unfinished():
            continue  # a registration that was cut short; the next run ends it
        if expected is None:
            return f"it holds v{version.version}, of which git knows nothing"
        if receipt != expected.key:
            return f"its v{version.version} has the receipt {receipt[:12]}, git says {expected.key[:12]}"
    numbers = {version.version for version in there}
    for number in known:
        if number not in numbers and number < max(numbers, default=0):
            return f"v{number} was deleted from it, and MLflow gives no number twice"
    return None


def _is_left_over(version: Version, known: dict[int, Known]) -> bool:
    """Whether a rebuild that was killed left it: the attempt at a later version, where MLflow's count was still lower."""
    later = [each.number for each in known.values() if each.key == version.tags.get("strop.receipt")]
    return version.version not in known and any(number > version.version for number in later)


def _unfinished() -> str | None:
    try:
        return receipt_digest(read_json(paths.RECEIPT))
    except (FileNotFoundError, ValueError):
        return None


def _obtain(registry: Registry, version: Known, known: dict[int, Known], rebuilt: Rebuilt) -> None:
    """One version, as git knows it."""
    there = registry.versions()
    for left_over in there:
        if _is_left_over(left_over, known):
            registry.delete_version(left_over.version)
    found = next((each for each in there if each.version == version.number), None)
    if found is not None:
        _complete(registry, version, found, rebuilt)
        return
    with TemporaryDirectory(prefix="strop-rebuild-") as folder:
        restored = restore(version, Path(folder))
        run_id = _obtain_run(registry, version, restored)
        source = _obtain_model(registry, version, restored, run_id)
        _create_at(registry, version, source, run_id)
    _tell(registry.model, version.number, restored, rebuilt)


def _complete(registry: Registry, version: Known, found: Version, rebuilt: Rebuilt) -> None:
    """A version that is there: its tags as git knows them, and the files of its model and of its run if these are gone."""
    changed = {key: value for key, value in version.tags.items() if found.tags.get(key) != value}
    registry.set_version_tags(version.number, changed)
    lacks_model = not registry.has_weights(found.source)
    lacks_files = version.receipt is not None and not registry.has_file(found.run_id, paths.RECEIPT.name)
    if not lacks_model and not lacks_files:
        rebuilt.kept.append(version.number)
        return
    with TemporaryDirectory(prefix="strop-rebuild-") as folder:
        restored = restore(version, Path(folder))
        _obtain_run(registry, version, restored)
        if lacks_model and (restored.model is None or version.receipt is None):
            rebuilt.kept.append(version.number)
            rebuilt.missing[version.number] = restored.missing
            return
        if lacks_model:
            _restore_files(registry, version, found, restored)
    _tell(registry.model, version.number, restored, rebuilt)


def _restore_files(registry: Registry, version: Known, found: Version, restored: Restored) -> None:
    """Logs the model once more, and puts its files into the place of those that are gone: a version keeps its source."""
    assert restored.model is not None
    assert version.receipt is not None
    made = logged_model.log_apart(found.run_id, restored.model, version.weights, version.receipt["base"])
    registry.copy_files(made, found.source)
    registry.share_weights(found.source, restored.model)
    for each in registry.versions():
        if each.source == found.source:  # versions of equal weights share a model
            registry.set_version_tags(each.version, {RESTORED_TAG: now()})
    registry.delete_model(made)


def _tell(model: str, number: int, restored: Restored, rebuilt: Rebuilt) -> None:
    rebuilt.made.append(number)
    print(f"registry: {model} v{number} made again", flush=True)
    if restored.missing:
        rebuilt.missing[number] = restored.missing
        print(f"registry: not restored for v{number}: {'; '.join(restored.missing)}", flush=True)


def _obtain_run(registry: Registry, version: Known, restored: Restored) -> str:
    if version.receipt is not None:
        return complete_run(registry, version.receipt, version.key, restored.root)
    names = ("strop.receipt", "strop.weights", "strop.dataset")
    tags = {name: version.tags[name] for name in names}
    run_id = registry.find_run("strop.receipt", version.key) or registry.create_run("candidate", tags)
    registry.end_run(run_id)
    return run_id


def _obtain_model(registry: Registry, version: Known, restored: Restored, run_id: str) -> str:
    """The address of the model with these files: versions of equal ones share it."""
    source = model_to_use_again(registry, version.weights, restored.model)
    if source is not None:
        return source
    if restored.model is None:
        return registry.log_empty_model(run_id, version.weights)
    assert version.receipt is not None
    return logged_model.log_apart(run_id, restored.model, version.weights, version.receipt["base"])


def _create_at(registry: Registry, version: Known, source: str, run_id: str) -> None:
    """Makes the version with its number. MLflow counts: numbers that no version has any more are used up and given back."""
    made = 0
    while made < version.number:
        made = registry.create_version(source, run_id, version.tags)
        if made != version.number:
            registry.delete_version(made)
    if made > version.number:
        fix = "Make all versions again, with what is there kept under another name: strop registry rebuild --replace"
        raise RegistryError(
            f"gives the number {made}, where v{version.number} of {registry.model} is missing: versions were deleted from it",
            where=registry.address,
            fix=fix,
        )


def _set_aliases(registry: Registry) -> None:
    aliases = aliases_of(read_ledger(registry.model))
    for name, number in aliases.items():
        if number is None:
            registry.remove_alias(name)
        elif registry.alias(name) != number:
            registry.set_alias(name, number)
    if aliases["champion"] is not None:
        note_mirrored(registry.model, aliases["champion"])
