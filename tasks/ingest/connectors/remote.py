"""Files behind an fsspec URL (`s3://`, `gs://`, `az://`, `memory://`): listed without a download, fetched to be read."""

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
    """The items are objects, by URL; each is downloaded while it is read."""

    def list_items(self) -> Listing:
        return list_objects(self.source)

    @contextlib.contextmanager
    def open_item(self, name: str, before: ItemState | None) -> Iterator[OpenItem]:
        read_image = image_reader(self.source)
        if self.source.image_folder is None:
            read_image = functools.partial(read_object, self.source, name, most_bytes=MAX_IMAGE_BYTES)
        with fetched(self.source, name) as (file, partner):
            records = read_records(file, self.source, partner=partner, label=name)
            yield OpenItem(records, read_image, size=file.stat().st_size)


def list_objects(source: Source) -> Listing:
    """The objects by URL, each with its size, and a stamp of etag and time.

    Raises:
        SourceError: the store cannot be reached, or nothing is there.
    """
    listing = Listing()
    with _telling(source):
        files, pattern = _open(source)
        names = _found(files, pattern)
        pair = source.parallel
        partners = {partner_of(name, pair) for name in names if pair and pair[0] in posixpath.basename(name).split(".")}
        for name in sorted(names.keys() - partners):
            if _is_wanted(name, pattern, source):
                beside = partner_of(name, pair) if pair else ""
                parts = [names[each] for each in (name, beside) if each in names]
                size = sum(int(part.get("size") or 0) for part in parts)
                url = with_variable_names(str(files.unstrip_protocol(name)), source.path)  # it is kept in raw, and told
                listing.items[url] = ItemState(size, stamp=" ".join(_stamp(part) for part in parts))
    if not listing.items:
        fix = "Put the file there, or mend the path in params.yaml (section `ingest`)"
        raise SourceError("no such file", where=f"source `{source.name}`, path {source.path}", fix=fix)
    return listing


@contextlib.contextmanager
def fetched(source: Source, url: str) -> Iterator[tuple[Path, Path | None]]:
    """The object (and for parallel text the one beside it) as a file on this machine, for as long as the block lasts.

    Raises:
        SourceError: it cannot be fetched.
    """
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    folder = new_folder(paths.CACHE, "fetched-")
    try:
        with _telling(source):
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
    """An object that a record names, below the folder of the object that the record came from.

    Raises:
        SourceError: the store cannot be reached.
        FileNotFoundError: there is no such object.
        ValueError: the name leads out of the folder, or the object is too large.
    """
    folder = posixpath.dirname(url)
    relative = posixpath.normpath(name)
    if relative.startswith(("..", "/")) or "://" in name:
        raise ValueError(f"leads out of {folder}")
    with _telling(source, but=FileNotFoundError):
        files, _ = _open(source)
        key = files._strip_protocol(_address(source, posixpath.join(folder, relative)))
        size = int(files.info(key).get("size") or 0)
        return bytes(files.cat_file(key)) if size <= most_bytes else _too_large(size)


def _too_large(size: int) -> bytes:
    raise ValueError(f"is too large ({size:,} bytes)")


def _address(source: Source, name: str) -> str:
    """An object's URL, with the values of the variables that the source's path names."""
    return str(filled_in(name, source.name)) if variables_in(source.path) else name


def _open(source: Source) -> tuple[Any, str]:
    """The file system, with nothing remembered of earlier listings, and the path within it."""
    import fsspec  # type: ignore[import-untyped]

    options = filled_in(dict(source.storage_options), source.name)
    files, path = fsspec.core.url_to_fs(filled_in(source.path, source.name), **options)
    files.invalidate_cache()
    return files, str(path)


def _found(files: Any, pattern: str) -> dict[str, dict[str, Any]]:
    if any(character in pattern for character in "*?["):
        found = files.glob(pattern, detail=True)
    elif files.isdir(pattern):
        found = files.find(pattern, detail=True)
    else:
        found = {pattern: files.info(pattern)}
    return {str(name): info for name, info in found.items() if info.get("type") != "directory"}


def _is_wanted(name: str, pattern: str, source: Source) -> bool:
    """Whether an object is read: in a folder, only files with a known ending; else whatever the file name or glob matches."""
    is_named = name == pattern or any(character in pattern for character in "*?[")
    if is_named or source.format != AUTO:
        return True
    return format_by_ending(name) is not None and not posixpath.basename(name).startswith(".")


def _stamp(info: dict[str, Any]) -> str:
    """What tells whether an object changed; its time, where the store gives no tag."""
    tags = [str(info[key]) for key in _TAGS if info.get(key)]
    times = [info[key] for key in _TIMES if info.get(key)]
    told = [time.isoformat() if isinstance(time, datetime.datetime) else str(time) for time in times[:1]]
    return " ".join(tags[:2] or told)


@contextlib.contextmanager
def _telling(source: Source, but: type[Exception] = SourceError) -> Iterator[None]:
    """Tells in one line what a store refuses: its libraries raise errors of their own, of no common kind."""
    where = f"source `{source.name}`, path {source.path}"
    protocol = str(source.path).split("://")[0]
    try:
        yield
    except (SourceError, but):
        raise
    except FileNotFoundError as error:
        fix = "Put the file there, or mend the path in params.yaml (section `ingest`)"
        raise SourceError("no such file", where=where, fix=fix) from error
    except ImportError as error:
        package = PACKAGES.get(protocol, protocol)
        raise SourceError(f"needs the package {package}", where=where, fix=f"pip install {package}") from error
    except Exception as error:
        told = (
            one_line(with_variable_names(str(error), [source.path, source.storage_options]), 200)
            or type(error).__name__
        )
        fix = "See that the address, the storage_options and their environment variables are right, then run again"
        raise SourceError(f"cannot be reached ({told})", where=where, fix=fix) from error
