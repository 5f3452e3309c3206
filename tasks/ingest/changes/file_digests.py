"""Digests of local files, by which unchanged and appended files are recognised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


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
