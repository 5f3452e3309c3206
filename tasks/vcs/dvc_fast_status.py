"""Whether every file is unchanged since DVC last reported the stages up to date. Uses `stat` only: `dvc status` needs seconds for
ten thousand batches. The digest is cached in .strop/clean.json, which may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from tasks import paths
from tasks.runtime.files import write_text
from tasks.vcs.dvc_files import parse_yaml
from tasks.vcs.dvc_repo import damaged_record

IGNORED = {"__pycache__"}
"""As in .dvcignore."""


def stat_digest() -> str:
    """A digest of path, size, inode and mtime of every file that a stage reads or writes, and of DVC's own files."""
    hasher = hashlib.sha256()
    own = map(str, (paths.DVC_YAML, paths.DVC_LOCK, paths.RAW_DVC, paths.PARAMS))
    for path in sorted({*_stage_paths(), *own}):
        for name, status in _files(path):
            hasher.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\n".encode())
        hasher.update(b"\n")
    return hasher.hexdigest()


def is_unchanged() -> bool:
    """Whether the files are the same as when `save_clean_digest` was called."""
    try:
        return paths.CLEAN.read_text(encoding="utf-8") == stat_digest()
    except (OSError, UnicodeDecodeError):
        return False


def save_clean_digest(digest: str) -> None:
    """Stores a `stat_digest` that was computed before DVC reported everything up to date."""
    write_text(paths.CLEAN, digest)


def _stage_paths() -> Iterator[str]:
    """Every dependency and output in dvc.yaml."""
    try:
        stages = parse_yaml(paths.DVC_YAML.read_bytes())["stages"]
        kinds = [stage.get(kind, ()) for stage in stages.values() for kind in ("deps", "outs", "metrics", "plots")]
        yield from [entry if isinstance(entry, str) else next(iter(entry)) for entries in kinds for entry in entries]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise damaged_record(paths.DVC_YAML, error) from error


def _files(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The file, or every file below the folder, in order; nothing if the path does not exist."""
    if not os.path.isdir(path):
        if os.path.exists(path):
            yield path, os.stat(path)
        return
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if entry.name in IGNORED:
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            else:
                yield entry.path, entry.stat()
