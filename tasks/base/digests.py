"""The digests of a base's files, each read once: 14 GB are not hashed by every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import paths
from tasks.runtime.files import file_digest, read_json, write_json

STAT_CACHE = paths.CACHE / "base-files.json"
"""Remembers digests by size, times and inode."""


def known_digests(places: dict[str, Path], *, trusts_times: bool = True) -> dict[str, str]:
    """Name → sha256; a file whose size, times and inode did not change is not read again: the time of an inode's last change
    cannot be set back."""
    try:
        known: Any = read_json(STAT_CACHE)
    except (FileNotFoundError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    digests, fresh = {}, dict(known)
    for name, path in places.items():
        if not path.is_file():
            continue
        stat, key = path.stat(), str(path.resolve())
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        if not trusts_times or known.get(key, [])[:-1] != mark:
            fresh[key] = [*mark, file_digest(path)]
        digests[name] = fresh[key][-1]
    if fresh != known:
        write_json(STAT_CACHE, fresh)
    return digests
