"""Reading and writing small files so that a crash leaves the old one or the new one, and equal content equal bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    """One spelling of a JSON value: sorted keys, no spaces, text as it is."""
    return _ENCODER.encode(value)


def content_digest(value: Any) -> str:
    """sha256 (64 hex characters) of a JSON value's canonical spelling."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (64 hex characters) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """md5 (32 hex characters) of a file's bytes: DVC's hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over the relative names and digests of every file below `folder`, in name order."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return content_digest([[p.relative_to(folder).as_posix(), file_digest(p)] for p in files])


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, flushed to disk, if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with sorted keys: equal values give equal bytes."""
    write_text(path, json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_parquet(path: Path, table: pa.Table, **named: Any) -> None:
    """Parquet by pyarrow, with no metadata that differs from run to run.

    Args:
        named: as `pyarrow.parquet.write_table` takes them: a cache is written with `write_page_checksum=True`, and read with
            `page_checksum_verification=True`.
    """
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd", store_schema=False, **named)


def read_batches(file: Any, rows: int, **named: Any) -> Iterator[Any]:
    """Record batches of at most so many rows of a pyarrow ParquetFile, in order, a row group at a time.

    Of several row groups `iter_batches` keeps what it read until the last: 300 MB after four million rows, with pyarrow 25.
    """
    for group in range(file.num_row_groups):
        yield from file.iter_batches(rows, row_groups=[group], **named)


class ParquetStream:
    """A context that writes a table at a time, each as a row group. What an error leaves behind is not a whole file."""

    def __init__(self, path: Path, schema: pa.Schema, **named: Any) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(path, schema, **{"compression": "zstd", "store_schema": False, **named})

    def __enter__(self) -> ParquetStream:
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        if table.num_rows:
            self._writer.write_table(table)


def write_tables(path: Path, schema: Any, tables: Iterable[Any]) -> int:
    """Parquet of the rows of several tables (`schema`), in order, each a row group; returns how many rows."""
    rows = 0
    with replacing(path) as temporary, ParquetStream(temporary, schema) as stream:
        for table in tables:
            stream.write(table)
            rows += table.num_rows
    return rows


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system has them, else a copy. Neither file may be written in place afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def append_line(path: Path, value: Any) -> None:
    """Appends one JSON line and flushes it to disk; a torn last line of an earlier crash is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(canonical_json(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_log(path: Path, entry: Callable[..., T], what: str, fix: str) -> list[T]:
    """The entries of a log that `append_line` wrote, oldest first; none where there is no file.

    Args:
        entry: makes one of the fields of a line.
        what: what an entry is called, with its article.

    Raises:
        DataError: a line is no such entry; `fix` says what to do then.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n") if path.exists() else [], start=1):
        if not line.strip():
            continue
        try:
            found.append(entry(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(f"not {what} ({error})", where=f"{path} line {number}", fix=fix) from error
    return found
