"""Digests of files for an audit: of the bytes, or, in a quick walk, of unchanged files from a cache.

    digests = Digests(reads_all=False)
    digests.sha256(path)
    digests.save()

The cache has no verdicts: every walk compares the digests with the receipt anew. The decision page
(docs/decisions/0036-audit-walks.md) has the changes that only a deep walk detects.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks import paths
from tasks.errors import VersioningError
from tasks.runtime.files import file_digest, file_state, md5_of, read_object, write_json

Algorithm = Literal["sha256", "md5"]
State = tuple[int, int, int, int]

CACHE = paths.CACHE / "audit-files.json"
SETTLED_SECONDS = 2.0
"""A file that changed more recently is not cached: a second change could have the same times."""
ALGORITHMS: dict[Algorithm, Callable[[Path], str]] = {"sha256": file_digest, "md5": md5_of}


@dataclass
class Digests:
    """The digests of one walk: no file is read twice, whatever its names."""

    reads_all: bool
    """Read the bytes of every file; False: not of those that are unchanged by size, times and inode."""
    read_bytes: int = 0
    """Bytes that were read."""
    seconds: float = 0.0
    """The time of `read_ahead`."""
    batches: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(sha256, name) of a raw batch → whether its records give it its name: working tree and cache have equal copies."""
    _known: dict[tuple[int, int, Algorithm], tuple[State, str]] = field(default_factory=dict)
    """(device, inode, algorithm) → the file's state and digest, in this walk."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stored: dict[str, dict[str, list[int | str]]] | None = None
    _new: dict[str, dict[str, list[int | str]]] = field(default_factory=dict)

    def sha256(self, path: Path) -> str:
        return self.of("sha256", path)

    def md5(self, path: Path) -> str:
        return self.of("md5", path)

    def sha256_of_files(self, files: dict[str, Path]) -> dict[str, str]:
        """Name → sha256 of the files that exist."""
        return {name: self.sha256(path) for name, path in files.items() if path.is_file()}

    def of(self, algorithm: Algorithm, path: Path) -> str:
        """The digest of a file. Raises VersioningError where there is none."""
        state = file_state(path)
        if state is None:
            raise VersioningError("not found", where=str(path))
        status = os.stat(path)
        place: tuple[int, int, Algorithm] = (status.st_dev, status.st_ino, algorithm)
        known = self._known.get(place)
        if known is None or known[0] != state:
            known = state, self._cached(algorithm, path, state) or self._read(algorithm, path, state)
            self._known[place] = known
        return known[1]

    def read_ahead(self, files: Iterable[tuple[Algorithm, Path]]) -> None:
        """Reads files in threads, the largest first: Python hashes without its lock. An error is left to the link that needs the
        file."""
        sizes: dict[tuple[Algorithm, int, int], tuple[int, Path]] = {}
        for algorithm, path in files:
            if path.is_file():
                status = path.stat()
                sizes[algorithm, status.st_dev, status.st_ino] = status.st_size, path
        ordered = sorted(((-size, key[0], path) for key, (size, path) in sizes.items()))
        start = time.monotonic()
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="digests") as pool:
            for _ in pool.map(lambda item: self._ignoring_errors(item[1], item[2]), ordered):
                pass
        self.seconds += time.monotonic() - start

    def save(self) -> None:
        """Stores what this walk has read, for later quick walks. A cache that cannot be written costs only time."""
        if not self._new:
            return
        with contextlib.suppress(OSError):
            kept = {key: entry for key, entry in self._entries().items() if os.path.exists(key)}
            for key, entry in self._new.items():
                kept[key] = {**kept.get(key, {}), **entry}
            write_json(CACHE, kept)

    def _cached(self, algorithm: Algorithm, path: Path, state: State) -> str | None:
        if self.reads_all:
            return None
        entry = self._entries().get(str(path.resolve()), {}).get(algorithm)
        return str(entry[-1]) if isinstance(entry, list) and entry[:-1] == list(state) else None

    def _read(self, algorithm: Algorithm, path: Path, state: State) -> str:
        now = time.time_ns()
        digest = ALGORITHMS[algorithm](path)
        with self._lock:
            self.read_bytes += state[0]
        _, modified, changed, _ = state
        if file_state(path) == state and max(modified, changed) < now - SETTLED_SECONDS * 1e9:
            self._new.setdefault(str(path.resolve()), {})[algorithm] = [*state, digest]
        return digest

    def _ignoring_errors(self, algorithm: Algorithm, path: Path) -> None:
        with contextlib.suppress(OSError, VersioningError):
            self.of(algorithm, path)

    def _entries(self) -> dict[str, dict[str, list[int | str]]]:
        if self._stored is None:
            stored = read_object(CACHE)
            self._stored = {key: entry for key, entry in stored.items() if isinstance(entry, dict)}
        return self._stored
