"""Folders that say what they hold: a list of files, sizes and digests, written last. What a crash tore or a disk changed is found.

For what is kept to be used again (checkpoints, caches): a folder that is not as it was written is not used.
"""

from __future__ import annotations

from pathlib import Path

from tasks.files import file_digest, read_json, write_json

SEAL = "complete"
"""The list's file: one that is not there was not finished."""


def seal(folder: Path) -> None:
    """Writes the list of all files below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    write_json(
        folder / SEAL,
        {path.relative_to(folder).as_posix(): [path.stat().st_size, file_digest(path)] for path in files},
    )


def damage_of(folder: Path) -> str:
    """What is not as it was when the folder was sealed, in a few words; "" where all is."""
    try:
        listed = read_json(folder / SEAL)
        known = {str(name): (int(size), str(digest)) for name, (size, digest) in listed.items()}
    except FileNotFoundError:
        return "it was not finished"
    except (OSError, ValueError, TypeError, AttributeError):
        return f"its list of files ({SEAL}) cannot be read"
    for name, (size, digest) in sorted(known.items()):
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
        if file_digest(path) != digest:
            return f"{name} has changed since it was written"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SEAL}
    return f"{min(there - known.keys())} does not belong to it" if there - known.keys() else ""
