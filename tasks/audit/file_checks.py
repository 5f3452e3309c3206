"""Files under audit: whether they are still what was recorded, or what an erasure made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import VersioningError
from tasks.records.raw_batch import ERASED, batch_id_of, record_digest
from tasks.runtime.files import file_digest, md5_of
from tasks.runtime.plurals import count_of
from tasks.state.erasures import Erasure, erased_digests
from tasks.vcs.dvc_outputs import StoredFile


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
    files: list[StoredFile],
    recorded: str,
    folder: Path,
    but: set[str] | frozenset[str] = frozenset(),
    by: str = "the receipt",
) -> list[str]:
    """Files of a folder whose bytes are not what its listing says, and whether the listing is the recorded one.

    Args:
        but: files that were looked at already.
        by: who recorded the listing.
    """
    wrong = [
        f"{folder / file.relpath} in DVC's cache has changed ({file.path})"
        for file in files
        if file.relpath not in but and not file.is_gone and checked_md5(file.path) != file.current_md5
    ]
    if (digest := folder_hash({file.relpath: file.md5 for file in files})) != recorded:
        wrong.append(f"{folder} is {digest}, but {by} says {recorded}")
    return wrong


def folder_hash(files: Mapping[str, str]) -> str:
    """DVC's hash of a folder, from the md5 of each of its files by relative path."""
    listing = [{"md5": md5, "relpath": relpath} for relpath, md5 in sorted(files.items())]
    return f"{hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"


def checked_md5(path: Path) -> str:
    if not path.exists():
        raise VersioningError("not found", where=str(path))
    return md5_of(path)
