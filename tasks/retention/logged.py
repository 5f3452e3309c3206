"""The logged models whose files may be removed: those that only retired versions have."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tasks.retention.plan import Removal
from tasks.tracking.registry import Registry

OF_STROP = "models:/m-"


def logged_model_removals(registry: Registry, retired: Collection[int], reason: str) -> Iterator[Removal]:
    """Versions with equal files share a logged model, which stays while one of them is not retired."""
    owners: dict[str, list[int]] = {}
    for version in registry.versions():
        owners.setdefault(version.source, []).append(version.version)
    for source, versions in owners.items():
        if not source.startswith(OF_STROP) or not set(versions) <= set(retired):
            continue
        sizes = registry.stored_bytes(source)
        if not sizes:
            continue
        what = f"logged model of {', '.join(f'v{version}' for version in versions)}"
        folder = registry.local_folder(source)
        if folder is not None and folder.is_dir():
            yield Removal("logged models", what, reason, (folder,), source)
        else:
            yield Removal("logged models", what, reason, (), source, sum(sizes.values()))


def has_other_owner(registry: Registry, source: str, retired: Collection[int]) -> bool:
    """Whether a version that is not retired has this logged model now: another clone may have registered one since the plan."""
    return any(version.source == source and version.version not in retired for version in registry.versions())
