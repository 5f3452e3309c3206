"""Files on this machine: a file, a glob, or a folder."""

from __future__ import annotations

import glob
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tasks.errors import SourceError
from tasks.ingest.connectors.connector import Connector, OpenItem
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.readers.compression import Content
from tasks.ingest.readers.dispatch import format_by_ending, format_of, read_records
from tasks.ingest.readers.formats import AUTO
from tasks.ingest.readers.images import image_reader
from tasks.ingest.readers.lines import encoding_of
from tasks.ingest.readers.text_conll_parallel import partner_of
from tasks.ingest.settings import Source

SETTLE_SECONDS_IN_A_FOLDER = 5.0
_MAGIC = re.compile("[*?[]")


def connect_files(source: Source) -> Connector:
    """The connector for the source's path: a path on this machine or an fsspec URL."""
    if "://" in (source.path or ""):
        from tasks.ingest.connectors.remote import RemoteFiles

        return RemoteFiles(source)
    return LocalFiles(source)


class LocalFiles(Connector):
    """The items are files, by path, each as `stat` sees it; an empty folder is no error."""

    are_local_files = True

    def list_items(self) -> Listing:
        source = self.source
        assert source.path is not None
        pattern = os.path.expanduser(source.path)
        listing = Listing()
        # a file whose name has a bracket is not a pattern
        is_path = os.path.lexists(pattern)
        is_folder = is_path and os.path.isdir(pattern)
        if is_folder:
            names = sorted(_within(pattern, source, listing))
            if not names and not listing.notes:
                listing.notes.append(f"{_relative(pattern)}: contains no files with a known ending")
        elif is_path:
            names = [pattern]
        else:
            names = sorted(_kept_within(_root_of(pattern), glob.glob(pattern, recursive=True), source, listing))
        settle = source.settle_seconds
        if settle is None:
            settle = SETTLE_SECONDS_IN_A_FOLDER if is_folder else 0.0
        for name in names:
            _add_file(_relative(name), source, settle, listing)
        if source.parallel is not None:
            _pair_up(source.parallel, listing)
        if not (is_folder or listing.items or listing.notes):
            raise self.no_such_file()
        return listing

    def require(self) -> None:
        for name in self.list_items().items:
            require_readable(self.source, name)

    def open_item(self, name: str, before: ItemState | None) -> AbstractContextManager[OpenItem]:
        """With `before`, only what was appended, where the file can be read from the middle."""
        source, size = self.source, Path(name).stat().st_size
        read_image = image_reader(source, name)
        if before is not None and before.lines is not None and _can_resume(name, source):
            records = read_records(Path(name), source, skip_bytes=before.size, skip_lines=before.lines)
            return nullcontext(OpenItem(records, read_image, is_whole=False, size=size - before.size))
        partner = Path(partner_of(name, source.parallel)) if source.parallel else None
        return nullcontext(OpenItem(read_records(Path(name), source, partner=partner), read_image, size=size))


def require_readable(source: Source, name: str) -> list[str]:
    """The file, and for parallel text the second one.

    Raises:
        SourceError: one of them does not exist, or may not be read.
    """
    files = [name, partner_of(name, source.parallel)] if source.parallel else [name]
    for file in files:
        if not os.path.exists(file):
            raise SourceError("no such file", where=file, fix=f"Put it beside {name}")
        if not os.access(file, os.R_OK):
            raise SourceError("may not be read", where=file, fix=f"Fix its permissions: chmod u+r {file}")
    return files


def _add_file(name: str, source: Source, settle_seconds: float, listing: Listing) -> None:
    try:
        status = os.stat(name)
    except OSError:  # removed since, or a dangling link
        if os.path.islink(name):
            listing.notes.append(f"{name}: is a link to nothing")
        return
    if not stat.S_ISREG(status.st_mode):
        return
    if settle_seconds and abs(time.time() - status.st_mtime) < settle_seconds:
        listing.unsettled.add(name)
        ready = time.strftime("%H:%M:%S", time.localtime(status.st_mtime + settle_seconds + 1))
        listing.notes.append(f"{name}: changed less than {settle_seconds:g} s ago; a run after {ready} reads it")
        return
    listing.items[name] = ItemState(status.st_size, status.st_mtime_ns)


def _within(folder: str, source: Source, listing: Listing) -> Iterator[str]:
    """The files of known formats below a folder. Hidden files are ignored; of other files that are not read, a note is added."""
    visited: set[str] = set()
    unknown: list[str] = []

    def note_error(error: OSError) -> None:
        listing.notes.append(f"{error.filename}: may not be read ({error.strerror})")

    for parent, folders, files in os.walk(folder, followlinks=source.follow_links, onerror=note_error):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a parent
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (os.path.join(parent, name) for name in folders):
            if os.path.islink(path) and not source.follow_links:
                listing.notes.append(f"{_relative(path)}: is a link to a folder; it is not followed")
        visible = [os.path.join(parent, name) for name in files if not name.startswith(".")]
        known = [name for name in visible if source.format != AUTO or format_by_ending(name)]
        unknown += sorted(set(visible) - set(known))
        yield from _kept_within(folder, known, source, listing)
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        listing.notes.append(f"{_relative(unknown[0])}{more}: not read: unknown ending")


def _kept_within(root: str, names: list[str], source: Source, listing: Listing) -> Iterator[str]:
    """The names whose files are below `root`; with `follow_links` all of them. A link out of it adds a note."""
    real_root = os.path.join(os.path.realpath(root), "")
    for name in names:
        if source.follow_links or os.path.realpath(name).startswith(real_root):
            yield name
        else:
            fix = "to read it: `follow_links: true`"
            listing.notes.append(f"{_relative(name)}: is a link out of {_relative(root)}; it is not followed ({fix})")


def _root_of(pattern: str) -> str:
    """The deepest folder above all matches of a glob."""
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return str(Path(*parts[:fixed])) if fixed else "."


def _pair_up(pair: tuple[str, ...], listing: Listing) -> None:
    """Makes one item of each pair, under the name of its first file. While one of the two is unsettled, both are."""
    firsts = [name for name in (*listing.items, *listing.unsettled) if pair[0] in Path(name).name.split(".")]
    partners = {name: partner_of(name, pair) for name in firsts}
    files = dict(listing.items)
    for name, partner in partners.items():
        second = files.get(partner) or _stat_of(partner)
        if partner in listing.unsettled:
            listing.items.pop(name, None)
            listing.unsettled.add(name)
        elif name in files and second is not None:
            first = files[name]
            listing.items[name] = ItemState(first.size + second.size, max(first.mtime_ns, second.mtime_ns))
    for partner in partners.values():
        listing.items.pop(partner, None)


def _stat_of(name: str) -> ItemState | None:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return ItemState(status.st_size, status.st_mtime_ns)


def _relative(name: str) -> str:
    """The path relative to the project if the file is below it, with forward slashes."""
    path = Path(os.path.abspath(name))
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


def _can_resume(name: str, source: Source) -> bool:
    """Whether reading can start in the middle, and line ends were counted correctly: not in an archive, nor in UTF-16."""
    content = Content(Path(name))
    is_plain = format_of(content.path, source).resumes and not content.archive
    return is_plain and len("\n".encode(encoding_of(content, source.encoding)[0])) == 1
