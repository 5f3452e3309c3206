"""Reads and writes small files: atomically (a crash leaves the old or the new file), and with equal bytes for equal content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

REMAKE = "Restore it, or remove it and run again: the run recreates derived files"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}")
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    """The canonical form of a JSON value: sorted keys, no spaces, text not escaped."""
    return _ENCODER.encode(value)


def content_digest(value: Any) -> str:
    """sha256 (64 hex characters) of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (64 hex characters) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """md5 (32 hex characters) of a file's bytes: DVC's hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def files_below(folder: Path) -> dict[str, Path]:
    """Relative path → file, of every file below `folder`, in order."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def folder_digest(folder: Path) -> str:
    """sha256 over the relative names and digests of every file below `folder`, in name order."""
    return content_digest([[name, file_digest(path)] for name, path in files_below(folder).items()])


def file_state(path: str | Path, follow_symlinks: bool = True) -> tuple[int, int, int, int] | None:
    """Size, mtime, ctime (nanoseconds) and inode, which change when a file is written or replaced; None if there is no file."""
    try:
        status = os.stat(path, follow_symlinks=follow_symlinks)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def new_file(folder: Path, prefix: str) -> Path:
    """Creates an empty file with a unique name and the default permissions: `tempfile` gives permissions to the owner only."""
    while True:
        path = folder / f"{prefix}{secrets.token_hex(6)}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666))
            return path


def new_folder(folder: Path, prefix: str) -> Path:
    """Creates an empty folder, as `new_file` does a file."""
    while True:
        path = folder / f"{prefix}{secrets.token_hex(6)}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path next to `path` that replaces it, flushed to disk, if the block raises nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_file(path.parent, f".{path.name}.")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_interrupted(folder: Path) -> None:
    """Removes the temporary files of `replacing` below a folder: a killed process left them. The caller is its only writer."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with sorted keys: equal values give equal bytes."""
    write_text(path, json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2) + "\n")


class DamagedFile(DataError, ValueError):
    """A file's content is damaged. A caller that can say more about the file catches it as a ValueError."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"damaged ({reason})", where=str(path), fix=REMAKE)
        self.reason = reason


def damage_reason(error: Exception) -> str:
    """The reason of the damage, for a message that names the file itself."""
    return error.reason if isinstance(error, DamagedFile) else str(error)


def read_json(path: Path) -> Any:
    """The value in a file. Raises DamagedFile if it is not valid JSON."""
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "unresolved merge conflict" if is_conflict(content) else str(error) if content.strip() else "empty"
        raise DamagedFile(path, reason) from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that can be made again; empty where the file is missing or damaged.

    Raises:
        DataError: the file is there, and this user may not read it: to make it again would fail as well.
    """
    try:
        value = read_json(path)
    except PermissionError as error:
        what = f"this user may not read it ({error.strerror})"
        raise DataError(what, where=str(path), fix=f"Give this user the right to read it: ls -l {path}") from error
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_parquet(path: Path, table: pa.Table, **options: Any) -> None:
    """Writes Parquet without metadata that differs between runs.

    Args:
        options: of `pyarrow.parquet.write_table`: a cache is written with `write_page_checksum=True`, and read with
            `page_checksum_verification=True`.
    """
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(None), temporary, compression="zstd", store_schema=False, **options
        )


def read_batches(file: Any, rows: int, **options: Any) -> Iterator[Any]:
    """Record batches of at most `rows` rows of a pyarrow ParquetFile, in order, one row group at a time.

    For several row groups `iter_batches` keeps all it has read in memory: 300 MB after four million rows, with pyarrow 25.
    """
    for group in range(file.num_row_groups):
        yield from file.iter_batches(rows, row_groups=[group], **options)


class ParquetStream:
    """A context manager that writes tables, each as a row group. After an error the file is incomplete."""

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(path, schema, **{"compression": "zstd", "store_schema": False, **options})

    def __enter__(self) -> ParquetStream:
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        if table.num_rows:
            self._writer.write_table(table)


def write_tables(path: Path, schema: Any, tables: Iterable[Any]) -> int:
    """Writes several tables (`schema`) to one Parquet file, in order, each as a row group; returns the number of rows."""
    rows = 0
    with replacing(path) as temporary, ParquetStream(temporary, schema) as stream:
        for table in tables:
            stream.write(table)
            rows += table.num_rows
    return rows


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link if the file system supports it, else a copy. Neither file may be written in place afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def is_conflict(content: bytes) -> bool:
    """Whether the content has git's merge conflict markers."""
    return any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in content.split(b"\n"))


def why_unreadable(error: Exception, path: Path) -> str:
    """Why a user's YAML file could not be read, in one line."""
    if is_conflict(path.read_bytes()):
        return "unresolved merge conflict: choose one side, and remove the lines with the markers"
    reason = " ".join(str(error).split())
    return reason if reason.startswith("not readable") else f"not readable as YAML: {reason}"
