"""Reads local files: their digests, by which unchanged and appended files are recognised, and errors of the disk as errors of the
source; those of data/raw are not caught here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tasks.errors import SourceError
from tasks.ingest.readers.raw_record import RawRecord


@dataclass(frozen=True)
class FileDigests:
    """Results of one pass over a file's bytes."""

    whole: str
    """sha256."""
    start: str | None
    """sha256 of as many first bytes as it had before; None if it is shorter, or no earlier size is known."""
    lines: int | None
    """Line feeds, if the last byte is one; else None."""


def digests_of(names: list[str], size: int, start_bytes: int | None) -> FileDigests:
    """Digests of the first `size` bytes of the concatenated files: bytes that are appended meanwhile belong to the next run."""
    hasher = hashlib.sha256()
    start: str | None = None
    done = lines = 0
    last = b""
    for name in names:
        with open(name, "rb") as file:
            while done < size and (chunk := file.read(min(1024 * 1024, size - done))):
                if start_bytes is not None and start is None and done + len(chunk) >= start_bytes:
                    head = hasher.copy()
                    head.update(chunk[: start_bytes - done])
                    start = head.hexdigest()
                hasher.update(chunk)
                done += len(chunk)
                lines += chunk.count(b"\n")
                last = chunk[-1:]
    return FileDigests(hasher.hexdigest(), start, lines if last == b"\n" else None)


@contextmanager
def disk_errors_of(name: str) -> Iterator[None]:
    """Raises SourceError for an OSError in the block."""
    try:
        yield
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise SourceError(what, where=name, fix="Check that it exists and is complete, then run again") from error


def records_with_disk_errors(name: str, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """The records. Raises SourceError for an OSError while they are read."""
    with disk_errors_of(name):
        yield from records
