"""The spool: append-only segments of records, a folder for each gateway, readable while they are written.

with SpoolWriter(paths.SPOOL, segment_bytes=16_777_216) as writer:
    writer.append(response.as_json())
    writer.sync()
segments(paths.SPOOL)       # of all gateways
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks.feedback.lines import Line, encode_line, read_lines

SUFFIX = ".records"
LOCK, DELIVERY_LOCK = "writer.lock", "delivery.lock"
MOST_GATEWAYS = 1000
"""On one machine."""
DAY_SECONDS = 86_400.0


def segments(spool: Path) -> list[Path]:
    """The segments of all gateways, each gateway's in order."""
    return sorted(spool.glob(f"*/*{SUFFIX}"))


def read_spool(spool: Path, damage: list[str] | None = None) -> Iterator[Line]:
    """The records of all gateways, each gateway's in order.

    Args:
        damage: messages about damaged lines are appended here.
    """
    for path in segments(spool):
        try:
            yield from read_lines(path, damage=damage)
        except FileNotFoundError:  # its retention ended meanwhile
            continue


def folder_lock(folder: Path) -> FileLock:
    """Held by the writer of a folder while it lives."""
    return FileLock(folder / LOCK)


def delivery_lock(spool: Path) -> FileLock:
    """Held while records are delivered to MLflow: of several gateways one delivers at a time, and an erasure waits for it."""
    spool.mkdir(parents=True, exist_ok=True)
    return FileLock(spool / DELIVERY_LOCK)


class SpoolWriter:
    """Writes to a folder that no other process writes to; each start begins a new segment, so a torn line stays the last one of its
    segment."""

    def __init__(self, spool: Path, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.folder, self._lock = _free_folder(spool)
        self.unsynced = 0
        """Bytes that a failure of the machine would lose."""
        self._file: int | None = None
        self._size, self._began = 0, 0.0

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes a line; other processes see it at once. On an error, such as a full disk, the segment is as before.

        Raises:
            OSError: it cannot be written.
        """
        line = encode_line(record)
        is_full = self._size > 0 and self._size + len(line) > self.segment_bytes
        is_old = time.time() - self._began > DAY_SECONDS  # else its first record would outlive its retention
        if self._file is None or is_full or is_old:
            self.begin_segment()
        assert self._file is not None
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)
        self.unsynced += len(line)

    def sync(self) -> None:
        if self._file is not None and self.unsynced:
            os.fsync(self._file)
        self.unsynced = 0

    def end_segment(self) -> None:
        """Ends the present segment: it will not be written again."""
        self.sync()
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def close(self) -> None:
        self.end_segment()
        self._lock.release()

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def begin_segment(self) -> None:
        """Begins a new segment: whoever rewrites the earlier ones sees that they are complete."""
        self.end_segment()
        numbers = [int(path.stem) for path in self.folder.glob(f"*{SUFFIX}") if re.fullmatch(r"\d+", path.stem)]
        path = self.folder / f"{max(numbers, default=0) + 1:08d}{SUFFIX}"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
        self._file = os.open(path, flags, 0o600)
        self._size, self._began = 0, time.time()
        _sync_folder(self.folder)


def _sync_folder(folder: Path) -> None:
    """Makes the name of a new file durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_folder(spool: Path) -> tuple[Path, FileLock]:
    """The first folder of this machine that no living process writes to."""
    machine = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:100] or "gateway"
    for number in range(1, MOST_GATEWAYS + 1):
        folder = spool / f"{machine}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = folder_lock(folder)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        return folder, lock
    raise OSError(f"{spool}: {MOST_GATEWAYS:,} gateways write here")
