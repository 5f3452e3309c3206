"""The machine's folder of converted bases: `$STROP_CACHE/bases`, else `$XDG_CACHE_HOME/strop/bases`, else `~/.cache/strop/bases`.
A project uses its own .strop/bases if that folder is not writable, or writable by other users.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from tasks import paths

logger = logging.getLogger(__name__)

CACHE = "STROP_CACHE"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def bases_folders() -> list[Path]:
    """The folders of converted bases: the machine's, if it can be used, then the project's own."""
    try:
        folder = _shared_folder()
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        reason = error.strerror if isinstance(error, OSError) else str(error)
        report_own_folder(f"the cache of this machine cannot be used ({reason}; {CACHE} names another folder)")
        return [paths.BASES]
    for path in (folder.parent, folder):
        if reason := why_untrusted(path):
            report_own_folder(f"{path} {reason}")
            return [paths.BASES]
    return [folder, paths.BASES]


def why_untrusted(folder: Path) -> str | None:
    """Why another user may have written into the folder; None if none can have."""
    status = folder.stat()
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return "belongs to another user"
    if os.name == "posix" and status.st_mode & OTHERS_WRITE:
        return "is writable by other users (fix: chmod go-w)"
    return None


def report_own_folder(reason: str) -> None:
    logger.warning(f"base: {reason}: the converted base is stored in {paths.BASES} of this project instead")


def _shared_folder() -> Path:
    if configured := os.environ.get(CACHE):
        return Path(configured).expanduser().absolute() / "bases"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the XDG specification ignores relative paths
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "strop" / "bases"
