"""Files behind an fsspec URL (`s3://`, `gs://`, `az://`, `memory://`): listed without a download."""

from __future__ import annotations

import contextlib
import datetime
import functools
import posixpath
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import SourceError, one_line
from tasks.ingest.connectors.connector import Connector, OpenItem
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.readers.dispatch import format_by_ending, read_records
from tasks.ingest.readers.formats import AUTO
from tasks.ingest.readers.images import MAX_IMAGE_BYTES, image_reader
from tasks.ingest.readers.text_conll_parallel import partner_of
from tasks.ingest.secrets import filled_in
from tasks.ingest.settings import Source
from tasks.runtime.files import new_folder
from tasks.runtime.redaction.settings import variables_in, with_variable_names

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "version_id", "sha256")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


class RemoteFiles(Connector):
    """The items are objects, by URL, each with a stamp of etag or time; each is downloaded while it is read."""

    def list_items(self) -> Listing:
        source = self.source
        listing = Listing()
        with _store_errors(source):
            files, pattern = _open(source)
            names = _find(files, pattern)
            pair = source.parallel
            partners = {
                partner_of(name, pair) for name in names if pair and pair[0] in posixpath.basename(name).split(".")
            }
            for name in sorted(names.keys() - partners):
                if _is_read(name, pattern, source):
                    partner = partner_of(name, pair) if pair else ""
                    parts = [names[part] for part in (name, partner) if part in names]
                    size = sum(int(part.get("size") or 0) for part in parts)
                    # it is stored in raw and printed
                    url = with_variable_names(str(files.unstrip_protocol(name)), source.path)
                    listing.items[url] = ItemState(size, stamp=" ".join(_stamp(part) for part in parts))
        if not listing.items:
            raise self.no_such_file()
        return listing

    @contextlib.contextmanager
    def open_item(self, name: str, before: ItemState | None) -> Iterator[OpenItem]:
        read_image = image_reader(self.source)
        if self.source.image_folder is None:
            read_image = functools.partial(read_object, self.source, name, most_bytes=MAX_IMAGE_BYTES)
        with fetched(self.source, name) as (file, partner):
            records = read_records(file, self.source, partner=partner, label=name)
            yield OpenItem(records, read_image, size=file.stat().st_size)


@contextlib.contextmanager
def fetched(source: Source, url: str) -> Iterator[tuple[Path, Path | None]]:
    """The object (and for parallel text the second one) as a file on this machine while the block runs.

    Raises:
        SourceError: it cannot be fetched.
    """
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    folder = new_folder(paths.CACHE, "fetched-")
    try:
        with _store_errors(source):
            files, _ = _open(source)
            targets = []
            for name in [url, partner_of(url, source.parallel)] if source.parallel else [url]:
                target = folder / posixpath.basename(name)
                files.get_file(files._strip_protocol(_address(source, name)), str(target))
                targets.append(target)
        yield targets[0], targets[1] if len(targets) > 1 else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_object(source: Source, url: str, name: str, most_bytes: int) -> bytes:
    """An object that a record names, in or below the folder of the record's object.

    Raises:
        SourceError: the store cannot be reached.
        FileNotFoundError: there is no such object.
        ValueError: the name leads out of the folder, or the object is too large.
    """
    folder = posixpath.dirname(url)
    relative = posixpath.normpath(name)
    if relative.startswith(("..", "/")) or "://" in name:
        raise ValueError(f"leads out of {folder}")
    with _store_errors(source, but=FileNotFoundError):
        files, _ = _open(source)
        key = files._strip_protocol(_address(source, posixpath.join(folder, relative)))
        size = int(files.info(key).get("size") or 0)
        if size > most_bytes:
            raise ValueError(f"is too large ({size:,} bytes)")
        return bytes(files.cat_file(key))


def _address(source: Source, name: str) -> str:
    """An object's URL, with the values of the variables in the source's path."""
    return str(filled_in(name, source.name)) if variables_in(source.path) else name


def _open(source: Source) -> tuple[Any, str]:
    """The file system, without cached listings, and the path within it."""
    import fsspec  # type: ignore[import-untyped]

    options = filled_in(dict(source.storage_options), source.name)
    files, path = fsspec.core.url_to_fs(filled_in(source.path, source.name), **options)
    files.invalidate_cache()
    return files, str(path)


def _find(files: Any, pattern: str) -> dict[str, dict[str, Any]]:
    if any(character in pattern for character in "*?["):
        infos = files.glob(pattern, detail=True)
    elif files.isdir(pattern):
        infos = files.find(pattern, detail=True)
    else:
        infos = {pattern: files.info(pattern)}
    return {str(name): info for name, info in infos.items() if info.get("type") != "directory"}


def _is_read(name: str, pattern: str, source: Source) -> bool:
    """Whether an object is read: in a folder, only files with a known ending; else whatever the file name or glob matches."""
    is_named = name == pattern or any(character in pattern for character in "*?[")
    if is_named or source.format != AUTO:
        return True
    return format_by_ending(name) is not None and not posixpath.basename(name).startswith(".")


def _stamp(info: dict[str, Any]) -> str:
    """The object's etag or version, which change with it; its time if the store has neither."""
    tags = [str(info[key]) for key in _TAGS if info.get(key)]
    times = [info[key] for key in _TIMES if info.get(key)]
    first = [time.isoformat() if isinstance(time, datetime.datetime) else str(time) for time in times[:1]]
    return " ".join(tags[:2] or first)


@contextlib.contextmanager
def _store_errors(source: Source, but: type[Exception] = SourceError) -> Iterator[None]:
    """Raises SourceError, in one line, for the errors of stores: their libraries have no common class."""
    where = f"source `{source.name}`, path {source.path}"
    protocol = str(source.path).split("://")[0]
    try:
        yield
    except (SourceError, but):
        raise
    except FileNotFoundError as error:
        raise RemoteFiles(source).no_such_file() from error
    except ImportError as error:
        package = PACKAGES.get(protocol, protocol)
        raise SourceError(f"needs the package {package}", where=where, fix=f"pip install {package}") from error
    except Exception as error:
        message = with_variable_names(str(error), [source.path, source.storage_options])
        reason = one_line(message, 200) or type(error).__name__
        fix = "Check the address, the storage_options and their environment variables, then run again"
        raise SourceError(f"cannot be reached ({reason})", where=where, fix=fix) from error
