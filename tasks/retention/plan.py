"""The plan of `strop gc`: what is removed, why, and how many bytes that frees."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.model_store.ledger_chain import ChainNode

KINDS = ("logged models", "stage outputs", "weights", "checkpoints", "served records", "caches")
"""In the order in which they are removed."""


@dataclass(frozen=True)
class Removal:
    """Files that are removed together."""

    kind: str
    what: str
    reason: str
    paths: tuple[Path, ...] = ()
    """Files and folders on this disk."""
    source: str = ""
    """The logged model whose files the registry removes; its `paths`, if it has any, are only counted."""
    bytes: int = 0
    """Bytes that are freed. Of a file with several hard links, only if all of them are removed."""


@dataclass(frozen=True)
class Plan:
    chain: tuple[ChainNode, ...] = ()
    """The ledger that the plan was made from."""
    retired: tuple[int, ...] = ()
    """The versions that are retired now: an entry in the ledger each."""
    kept: dict[int, str] = field(default_factory=dict)
    """Version → why its files stay."""
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    """What was left as it is, and why."""
    why: str = ""
    """Why the versions are retired, for their entries in the ledger."""

    @property
    def bytes(self) -> int:
        return sum(removal.bytes for removal in self.removals)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        removals = [
            {"kind": removal.kind, "what": removal.what, "bytes": removal.bytes, "reason": removal.reason}
            for removal in self.removals
        ]
        return {
            "bytes": self.bytes,
            "retired": list(self.retired),
            "kept": {str(version): reason for version, reason in self.kept.items()},
            "removals": removals,
            "notes": list(self.notes),
        }


def in_order(removals: Iterable[Removal]) -> tuple[Removal, ...]:
    """The removals by kind, with the bytes that each frees on this disk. A file counts where its last link is removed."""
    links: Counter[tuple[int, int]] = Counter()
    counted = []
    for removal in sorted(removals, key=lambda removal: KINDS.index(removal.kind)):
        freed = removal.bytes
        for status in _files(removal.paths):
            inode = (status.st_dev, status.st_ino)
            links[inode] += 1
            freed += status.st_size if links[inode] == status.st_nlink else 0
        counted.append(replace(removal, bytes=freed))
    return tuple(counted)


def _files(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    for path in paths:
        is_folder = path.is_dir() and not path.is_symlink()
        for file in sorted(path.rglob("*")) if is_folder else [path]:
            if file.is_symlink() or file.is_file():
                yield file.lstat()
