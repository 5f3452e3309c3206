"""Cached digests of a base's files, so that not every command hashes 14 GB."""

from __future__ import annotations

from pathlib import Path

from tasks import paths
from tasks.runtime.files import file_digest, read_object, write_json

STAT_CACHE = paths.CACHE / "base-files.json"
"""Caches digests by size, times and inode."""


def cached_digests(files: dict[str, Path]) -> dict[str, str]:
    """Name → sha256. A file with unchanged size, times and inode is not read again: the time of an inode's last change cannot be
    set back."""
    stored = read_object(STAT_CACHE)
    digests, entries = {}, dict(stored)
    for name, path in files.items():
        if not path.is_file():
            continue
        stat, key = path.stat(), str(path.resolve())
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        if stored.get(key, [])[:-1] != state:
            entries[key] = [*state, file_digest(path)]
        digests[name] = entries[key][-1]
    if entries != stored:
        write_json(STAT_CACHE, entries)
    return digests
