"""Files on this machine: one, a glob, or a folder that is watched. Nothing is opened here."""

from __future__ import annotations

import glob
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import SourceError
from tasks.ingest.connectors.listing import Listing, Seen
from tasks.ingest.readers.dispatch import is_known
from tasks.ingest.readers.text_conll_parallel import partner_of
from tasks.ingest.settings import Source

SETTLE_SECONDS_IN_A_FOLDER = 5.0
_MAGIC = re.compile("[*?[]")


def list_files(source: Source) -> Listing:
    """The source's files by name, each as `stat` sees it, sorted by name.

    Raises:
        SourceError: no file is there; an empty folder is no error.
    """
    assert source.path is not None
    pattern = os.path.expanduser(source.path)
    listing = Listing()
    # a file whose name holds a bracket is itself, not a pattern
    is_itself = os.path.lexists(pattern)
    is_folder = is_itself and os.path.isdir(pattern)
    if is_folder:
        names = sorted(_within(pattern, source, listing))
        if not names and not listing.left:
            listing.left.append(f"{_relative(pattern)}: holds no files whose ending is known")
    elif is_itself:
        names = [pattern]
    else:
        names = sorted(_kept_within(_root_of(pattern), glob.glob(pattern, recursive=True), source, listing))
    settle = source.settle_seconds
    if settle is None:
        settle = SETTLE_SECONDS_IN_A_FOLDER if is_folder else 0.0
    for name in names:
        _look_at(_relative(name), source, settle, listing)
    if source.parallel is not None:
        _pair_up(source.parallel, listing)
    if not (is_folder or listing.found or listing.left):
        fix = "Put the file there, or mend the path in params.yaml (section `ingest`)"
        raise SourceError("no such file", where=f"source `{source.name}`, path {source.path}", fix=fix)
    return listing


def _look_at(name: str, source: Source, settle_seconds: float, listing: Listing) -> None:
    try:
        status = os.stat(name)
    except OSError:  # vanished since, or a link to nothing
        if os.path.islink(name):
            listing.left.append(f"{name}: is a link to nothing")
        return
    if not stat.S_ISREG(status.st_mode):
        return
    if settle_seconds and abs(time.time() - status.st_mtime) < settle_seconds:
        listing.waiting.add(name)
        ready = time.strftime("%H:%M:%S", time.localtime(status.st_mtime + settle_seconds + 1))
        listing.left.append(f"{name}: changed less than {settle_seconds:g} s ago; a run from {ready} on takes it")
        return
    listing.found[name] = Seen(status.st_size, status.st_mtime_ns)


def _within(folder: str, source: Source, listing: Listing) -> Iterator[str]:
    """The files below a folder that a reader knows; hidden ones are passed over, all else that is left is named."""
    seen_folders: set[str] = set()
    unknown: list[str] = []

    def tell(error: OSError) -> None:
        listing.left.append(f"{error.filename}: may not be read ({error.strerror})")

    for place, folders, files in os.walk(folder, followlinks=source.follow_links, onerror=tell):
        real = os.path.realpath(place)
        if real in seen_folders:  # a link in a circle
            folders.clear()
            continue
        seen_folders.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if os.path.islink(os.path.join(place, name)) and not source.follow_links:
                listing.left.append(
                    f"{_relative(os.path.join(place, name))}: is a link to a folder; it is not followed"
                )
        visible = [os.path.join(place, name) for name in files if not name.startswith(".")]
        known = [name for name in visible if source.format != "auto" or is_known(name)]
        unknown += sorted(set(visible) - set(known))
        yield from _kept_within(folder, known, source, listing)
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        listing.left.append(f"{_relative(unknown[0])}{more}: not read, as the ending tells no format")


def _kept_within(root: str, names: list[str], source: Source, listing: Listing) -> Iterator[str]:
    """The names that lie below `root` in truth; a link that leads out of it is named, unless links are to be followed."""
    real_root = os.path.join(os.path.realpath(root), "")
    for name in names:
        if source.follow_links or os.path.realpath(name).startswith(real_root):
            yield name
        else:
            fix = "to have it read, say `follow_links: true`"
            listing.left.append(f"{_relative(name)}: is a link out of {_relative(root)}; it is not followed ({fix})")


def _root_of(pattern: str) -> str:
    """The folder that a glob looks below."""
    parts = Path(pattern).parts
    fixed = next((place for place, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return str(Path(*parts[:fixed])) if fixed else "."


def _pair_up(pair: tuple[str, ...], listing: Listing) -> None:
    """Each first file stands for both; the second alone is no item. While one of the two is waited for, both are."""
    firsts = [name for name in (*listing.found, *listing.waiting) if pair[0] in Path(name).name.split(".")]
    partners = {name: partner_of(name, pair) for name in firsts}
    found = dict(listing.found)
    for name, partner in partners.items():
        beside = found.get(partner) or _stat_of(partner)
        if partner in listing.waiting:
            listing.found.pop(name, None)
            listing.waiting.add(name)
        elif name in found and beside is not None:
            both = found[name].size + beside.size
            listing.found[name] = Seen(both, max(found[name].mtime_ns, beside.mtime_ns))
    for partner in partners.values():
        listing.found.pop(partner, None)


def _stat_of(name: str) -> Seen | None:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return Seen(status.st_size, status.st_mtime_ns)


def _relative(name: str) -> str:
    """The name relative to the project where the file lies below it, with forward slashes."""
    path = Path(os.path.abspath(name))
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()
