"""Erasures by law or by request: an append-only log of file, old hash, new hash, rows, who, when, why.

An audit uses this log: missing content of a version counts as *lawfully erased* only if it is recorded here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import paths
from tasks.runtime.json_lines import append_line, read_log
from tasks.runtime.plurals import count_of


@dataclass(frozen=True)
class Erasure:
    """One file from which rows were erased."""

    what: str
    """The file's path in the project."""
    old: str
    """md5 before the erasure: DVC's hash, as in the earlier versions."""
    old_sha256: str
    new: str
    """md5 of the new file without the rows; "" if the file was removed."""
    new_sha256: str
    ids: list[str]
    """Ids of the rows."""
    digests: list[str]
    """Digests of their raw records."""
    who: str
    when: str
    """UTC, ISO 8601."""
    why: str


def read_erasures(path: Path = paths.ERASURES) -> list[Erasure]:
    """All erasures, oldest first.

    Raises:
        DataError: a line is not an erasure.
    """
    return read_log(path, Erasure, "an erasure", f"Restore it: git checkout {path}")


def record_erasure(erasure: Erasure) -> None:
    """Appends it, unless it is recorded already."""
    if erasure not in read_erasures():
        append_line(paths.ERASURES, asdict(erasure))


def replacements(erasures: list[Erasure]) -> dict[str, Erasure]:
    """Old md5 → the erasure with the file's present md5 and all rows erased since."""
    by_md5: dict[str, Erasure] = {}
    for erasure in reversed(erasures):
        later = by_md5.get(erasure.new)
        if later is not None:
            ids, digests = [*erasure.ids, *later.ids], [*erasure.digests, *later.digests]
            old = {"old": erasure.old, "old_sha256": erasure.old_sha256}
            erasure = Erasure(**asdict(later) | old | {"ids": ids, "digests": digests})
        by_md5[erasure.old] = erasure
    return by_md5


def erasure_note(erasures: Iterable[Erasure | None]) -> str:
    """A note about rows that were lawfully erased from files; "" without erasures.

    Args:
        erasures: of each file, or None.
    """
    known = [erasure for erasure in erasures if erasure]
    if not known:
        return ""
    rows = count_of(len({row_id for erasure in known for row_id in erasure.ids}), "row")
    who = ", ".join(sorted({f"by {erasure.who} on {erasure.when[:10]}: {erasure.why}" for erasure in known}))
    return f"{rows} lawfully erased, not rebuildable ({who})"


def erased_digests() -> frozenset[str]:
    """Digests of the records that must not be collected again."""
    return frozenset(digest for erasure in read_erasures() for digest in erasure.digests)


def erased_images() -> frozenset[str]:
    """sha256 of the images that must not be stored again."""
    removed = (Path(erasure.what) for erasure in read_erasures() if not erasure.new)
    return frozenset(path.stem for path in removed if path.parent.name == "images")
