"""The folder in which converted bases are kept, once a machine: `$STROP_CACHE/bases`, else `$XDG_CACHE_HOME/strop/bases`, else
`~/.cache/strop/bases`. A project keeps its own in .strop/bases where that folder cannot be trusted or written.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tasks import paths

CACHE = "STROP_CACHE"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def bases_folders() -> list[Path]:
    """Where converted bases are looked for and kept: the machine's folder, if it can be used, then the project's own."""
    try:
        folder = _shared_folder()
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        reason = error.strerror if isinstance(error, OSError) else str(error)
        report_own_folder(f"the cache of this machine cannot be used ({reason}; {CACHE} names another folder)")
        return [paths.BASES]
    for each in (folder.parent, folder):
        if reason := why_untrusted(each):
            report_own_folder(f"{each} {reason}")
            return [paths.BASES]
    return [folder, paths.BASES]


def why_untrusted(folder: Path) -> str | None:
    """Why another user may have written in it; None where none can have."""
    found = folder.stat()
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return "belongs to another user"
    if os.name == "posix" and found.st_mode & OTHERS_WRITE:
        return "may be written by other users (chmod go-w closes it)"
    return None


def report_own_folder(why: str) -> None:
    print(f"base: {why}: the converted base is kept in {paths.BASES} of this project instead", flush=True)


def _shared_folder() -> Path:
    if given := os.environ.get(CACHE):
        return Path(given).expanduser().absolute() / "bases"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))  # one that is not absolute counts as none: XDG base directories
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "strop" / "bases"
