"""Files under audit: whether they are still what was recorded, or what an erasure made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.erasures import Erasure, erased_digests
from tasks.errors import VersioningError
from tasks.files import file_digest, md5_of
from tasks.outputs import StoredFile
from tasks.raw import ERASED, batch_id_of, record_digest
from tasks.wording import count_of


def is_batch(place: Path, batch: dict[str, Any], erasure: Erasure | None) -> bool:
    """Whether a file has the manifest's bytes, and the records in it are those that its name is the digest of.

    An emptied record has the digest that it had; one that no erasure tells of is a record that was lost.
    """
    import pyarrow.parquet as pq

    if file_digest(place) != (erasure.new_sha256 if erasure else batch["sha256"]):
        return False
    lawful = erased_digests()
    with pq.ParquetFile(place) as file:
        columns = [file.read(columns=[name])[name].to_pylist() for name in ("record", "raw", "error", "digest")]
    digests = [
        digest if error == ERASED and digest in lawful else record_digest(record, raw)
        for record, raw, error, digest in zip(*columns, strict=True)
    ]
    # a file that came again with the same records is a batch of its own: it counts those before it
    names = (batch_id_of(batch["source"], digests, again) for again in range(batch["ordinal"]))
    return len(digests) == batch["rows"] and batch["batch"] in names


def told_of_erasures(files: Iterable[StoredFile]) -> str:
    """What was lawfully erased from files of a version since it was made; "" where nothing was."""
    erasures = [file.erasure for file in files if file.erasure]
    if not erasures:
        return ""
    rows = count_of(len({row_id for each in erasures for row_id in each.ids}), "row")
    who = ", ".join(sorted({f"by {each.who} on {each.when[:10]}: {each.why}" for each in erasures}))
    return f"; {rows} lawfully erased, not rebuildable ({who})"


def wrong_tree(
    files: list[StoredFile], recorded: str, folder: Path, but: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    """Files of a folder whose bytes are not what its listing says, and whether the listing is the recorded one.

    Args:
        but: files that were looked at already.
    """
    wrong = [
        f"{folder / file.relpath} in DVC's cache has changed ({file.path})"
        for file in files
        if file.relpath not in but and not file.is_gone and checked_md5(file.path) != file.now
    ]
    listing = sorted(({"md5": file.md5, "relpath": file.relpath} for file in files), key=lambda entry: entry["relpath"])
    digest = hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    if f"{digest}.dir" != recorded:
        wrong.append(f"{folder} is {digest}.dir, but the receipt says {recorded}")
    return wrong


def checked_md5(path: Path) -> str:
    if not path.exists():
        raise VersioningError("not found", where=str(path))
    return md5_of(path)
