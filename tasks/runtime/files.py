"""Reading and writing small files so that a crash leaves the old one or the new one, and equal content equal bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

REMAKE = "Restore it, or remove it and run again: what can be made again is"
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


def new_file(folder: Path, prefix: str) -> Path:
    """An empty file of a name that no other has, with the rights of any new file: `tempfile` gives its owner's alone."""
    while True:
        path = folder / f"{prefix}{secrets.token_hex(6)}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666))
            return path


def new_folder(folder: Path, prefix: str) -> Path:
    """An empty folder, as `new_file` makes a file."""
    while True:
        path = folder / f"{prefix}{secrets.token_hex(6)}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, flushed to disk, if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_file(path.parent, f".{path.name}.")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with sorted keys: equal values give equal bytes."""
    write_text(path, json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2) + "\n")


class DamagedFile(DataError, ValueError):
    """The content of a file is not what was written there. A reader that knows more of it catches the ValueError."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"damaged ({reason})", where=str(path), fix=REMAKE)
        self.reason = reason


def damage(error: Exception) -> str:
    """What is wrong with a file, for the message of a reader that names the file itself."""
    return error.reason if isinstance(error, DamagedFile) else str(error)


def read_json(path: Path) -> Any:
    """The value in a file. Raises DamagedFile where it holds none."""
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "an unresolved conflict of git" if is_conflict(content) else str(error) if content.strip() else "empty"
        raise DamagedFile(path, reason) from error


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
    append_lines(path, [value])


def append_lines(path: Path, values: list[Any]) -> None:
    """As append_line, for many in one write. Where the disk refuses (it is full), the log is as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(canonical_json(value).encode() + b"\n" for value in values)
    with path.open("a+b", buffering=0) as file:  # a buffer would be written once more when the file is closed
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if size and file.read(1) != b"\n":
            lines = b"\n" + lines
        try:
            while lines:
                lines = lines[file.write(lines) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def read_log(path: Path, entry: Callable[..., T], what: str, fix: str) -> list[T]:
    """The entries of a log that `append_line` wrote, oldest first; none where there is no file.

    Args:
        entry: makes one of the fields of a line; it raises ValueError or TypeError where they make none.
        what: what an entry is called, with its article.

    Raises:
        DataError: a line is no such entry; `fix` says what to do then.
    """
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        if is_conflict(line):
            fix = f"Keep the lines of both sides in {path}, and remove the lines with the markers"
            raise DataError("an unresolved conflict of git", where=where, fix=fix)
        try:
            found.append(entry(**json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"not {what} ({error})", where=where, fix=fix) from error
    return found


def is_conflict(content: bytes) -> bool:
    """Whether git left the markers of a merge conflict in it."""
    return any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in content.split(b"\n"))


def why_unreadable(error: Exception, path: Path) -> str:
    """Why a YAML file that a person writes could not be read, in one line."""
    if is_conflict(path.read_bytes()):
        return "an unresolved conflict of git: choose between its sides, and remove the lines with the markers"
    reason = " ".join(str(error).split())
    return reason if reason.startswith("not readable") else f"not readable as YAML: {reason}"
