"""What was erased by law or by request: an append-only log of which file, its old and its new hash, which rows, who, when, why.

It is what an audit goes by: bytes that a version names and that are gone are *lawfully erased* only if they stand here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import paths
from tasks.runtime.files import append_line, read_log


@dataclass(frozen=True)
class Erasure:
    """One file that held erased rows."""

    what: str
    """The file's place in the project."""
    old: str
    """md5 of its bytes before: DVC's hash, which the versions of before name."""
    old_sha256: str
    new: str
    """md5 of the bytes that stand in their place, without the rows; "" where nothing does."""
    new_sha256: str
    ids: list[str]
    """Of the rows."""
    digests: list[str]
    """Of their raw records."""
    who: str
    when: str
    """UTC, ISO 8601."""
    why: str


def read_erasures(path: Path = paths.ERASURES) -> list[Erasure]:
    """All erasures, oldest first.

    Raises:
        DataError: a line is no erasure.
    """
    return read_log(path, Erasure, "an erasure", f"Restore it: git checkout {path}")


def record_erasure(erasure: Erasure, path: Path = paths.ERASURES) -> None:
    """Appends it, once."""
    if erasure not in read_erasures(path):
        append_line(path, asdict(erasure))


def replacements(erasures: list[Erasure]) -> dict[str, Erasure]:
    """Old md5 → what stands in its place today, and every row that was erased on the way there."""
    found: dict[str, Erasure] = {}
    for each in reversed(erasures):
        later = found.get(each.new)
        if later is not None:
            ids, digests = [*each.ids, *later.ids], [*each.digests, *later.digests]
            each = Erasure(
                **asdict(later) | {"old": each.old, "old_sha256": each.old_sha256, "ids": ids, "digests": digests}
            )
        found[each.old] = each
    return found


def erased_digests() -> frozenset[str]:
    """Digests of the records that must not be collected again."""
    return frozenset(digest for each in read_erasures() for digest in each.digests)


def erased_images() -> frozenset[str]:
    """sha256 of the images that must not be kept again."""
    gone = (Path(each.what) for each in read_erasures() if not each.new)
    return frozenset(place.stem for place in gone if place.parent.name == "images")
