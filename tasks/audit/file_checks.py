"""Checks of files: they must be as recorded, or as an erasure rewrote them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.audit.digests import Digests
from tasks.records.raw_bytes import folder_hash
from tasks.state import erasures
from tasks.state.erasures import Erasure, erased_digests
from tasks.vcs.dvc_outputs import StoredFile


def is_intact_batch(path: Path, batch: dict[str, Any], erasure: Erasure | None, digests: Digests) -> bool:
    """Whether a batch file has the bytes of the manifest, and, in a deep walk, records whose digests give the batch its name."""
    digest = digests.sha256(path)
    if digest != (erasure.new_sha256 if erasure else batch["sha256"]):
        return False
    if not digests.reads_all:
        return True
    key = digest, str(batch["batch"])
    if key not in digests.batches:
        digests.batches[key] = _has_named_records(path, batch)
    return digests.batches[key]


def _has_named_records(path: Path, batch: dict[str, Any]) -> bool:
    """Whether the digests of a batch's records give the batch its name.

    An erased record keeps its digest. An empty record without an erasure is damage.
    """
    import pyarrow.parquet as pq

    from tasks.records.raw_batch import ERASED, batch_id_of, record_digest

    lawful = erased_digests()
    with pq.ParquetFile(path) as file:
        columns = [file.read(columns=[name])[name].to_pylist() for name in ("record", "raw", "error", "digest")]
    of_records = [
        digest if error == ERASED and digest in lawful else record_digest(record, raw)
        for record, raw, error, digest in zip(*columns, strict=True)
    ]
    # a file that was collected again with the same records is another batch: its id counts the earlier ones
    names = (batch_id_of(batch["source"], of_records, number) for number in range(batch["ordinal"]))
    return len(of_records) == batch["rows"] and batch["batch"] in names


def erasure_note(files: Iterable[StoredFile]) -> str:
    """A note, for the end of a line, about rows that were lawfully erased from these files; "" without erasures."""
    note = erasures.erasure_note(file.erasure for file in files)
    return f"; {note}" if note else ""


def tree_problems(
    files: list[StoredFile],
    recorded: str,
    folder: Path,
    digests: Digests,
    but: set[str] | frozenset[str] = frozenset(),
    by: str = "the receipt",
) -> list[str]:
    """Files whose bytes differ from their folder's listing, and a listing that differs from the recorded one.

    Args:
        but: files that were checked already.
        by: where the digest of the listing is recorded.
    """
    problems = file_problems([file for file in files if file.relpath not in but], folder, digests)
    if (digest := folder_hash({file.relpath: file.md5 for file in files})) != recorded:
        problems.append(f"{folder} is {digest}, but {by} has {recorded}")
    return problems


def file_problems(files: Iterable[StoredFile], path: Path, digests: Digests) -> list[str]:
    """Files of an output whose bytes in DVC's cache have changed."""
    return [
        f"{path / file.relpath} in DVC's cache has changed ({file.path})"
        for file in files
        if not file.is_gone and digests.md5(file.path) != file.current_md5
    ]
