"""A file's bytes, decompressed if it ends in `.gz` or `.zst`: streaming, bounded, and up to where a damaged file ends."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tasks.errors import SourceError

ARCHIVES = (".gz", ".zst")
LEAST_BOUND_BYTES = 64 * 1024 * 1024
LARGEST_RATIO = 100
"""Text seldom compresses to less than a twentieth; a decompression bomb to a thousandth."""
ROW_BYTES, MOST_ROWS = 256, 2_000_000
"""A column of labels compresses to almost nothing: so many bytes are allowed a row, of at most so many rows."""
LARGEST_PAGE_BYTES = 1024**3
EVIDENCE_BYTES = 64


class Bound:
    """Counts the uncompressed bytes of a file, and raises SourceError if they exceed the bound."""

    def __init__(self, size: int, rows: int, most: int | None, name: str) -> None:
        allowed = max(LEAST_BOUND_BYTES, LARGEST_RATIO * size, ROW_BYTES * min(rows, MOST_ROWS))
        self.most = most or allowed
        self.name = name
        self.group: int | None = None
        """The present row group."""
        self.is_set = most is not None
        self.count = 0

    def add(self, count: int) -> None:
        """Counts bytes before they are unpacked. Raises SourceError if they are too many."""
        self.count += count
        self.require(self.count)

    def require(self, count: int) -> None:
        """Raises SourceError if so many bytes are too many."""
        if count > self.most:
            self._refuse(f"unpacks to more than {self.most:,} bytes, as decompression bombs do")

    def require_page(self, count: int) -> None:
        """Raises SourceError if a page is too large."""
        self.require(count)
        if count > LARGEST_PAGE_BYTES and not self.is_set:
            self._refuse(f"has a page that unpacks to {count:,} bytes (at most {LARGEST_PAGE_BYTES:,})")

    def _refuse(self, what: str) -> None:
        group = "" if self.group is None else f" row group {self.group + 1}"
        fix = "If the file is right, set `max_uncompressed_bytes` of its source"
        raise SourceError(what, where=f"{self.name}{group}", fix=fix)


@dataclass
class Content:
    """The bytes of a file, which a reader may open several times; `fault` is why they ended too early."""

    path: Path
    max_uncompressed_bytes: int | None = None
    """None: the larger of LEAST_BOUND_BYTES and LARGEST_RATIO times the file's size."""
    label: str = ""
    """The file's name in messages, if that is not its path."""
    partner: Content | None = None
    """The second file of a format whose records are in two."""
    skip_bytes: int = 0
    """Length of a part that was read before; readers of formats that `resume` skip it."""
    skip_lines: int = 0
    """Lines in that part."""
    fault: str = field(default="", init=False)

    @property
    def name(self) -> str:
        return self.label or str(self.path)

    @property
    def archive(self) -> str:
        """`.gz`, `.zst`, or "" for an uncompressed file."""
        ending = self.path.suffix.lower()
        return ending if ending in ARCHIVES else ""

    @property
    def ending(self) -> str:
        """The ending of the format: the one before `.gz`."""
        return Path(self.path.stem).suffix.lower() if self.archive else self.path.suffix.lower()

    def open(self) -> BinaryIO:
        if not self.archive or self.path.stat().st_size == 0:
            return self.path.open("rb")
        return io.BufferedReader(_Unpacking(self), 256 * 1024)

    def evidence(self) -> bytes:
        """The last bytes of a file that ended too early, as the record of the missing part in raw."""
        with self.path.open("rb") as file:
            file.seek(max(self.path.stat().st_size - EVIDENCE_BYTES, 0))
            return file.read()


class _Unpacking(io.RawIOBase):
    """An archive's content. A truncated or damaged archive ends after its readable part, and sets `content.fault`."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._packed = _open_archive(content)
        self._bound = Bound(content.path.stat().st_size, 0, content.max_uncompressed_bytes, content.name)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # one step at a time, so that bytes before a fault are not lost
            piece = self._packed.read1(len(buffer))
        except _errors() as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            kind = "truncated_archive" if isinstance(error, EOFError) else "damaged_archive"
            reason = "it ends in the middle" if isinstance(error, EOFError) else str(error)
            self._content.fault = f"{kind}: {reason}; the {self._bound.count:,} bytes before are kept"
            return 0
        self._bound.add(len(piece))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._packed.close()
        super().close()


def _open_archive(content: Content) -> Any:
    if content.archive == ".gz":
        return gzip.open(content.path, "rb")
    return _zstd().ZstdFile(content.path, "rb")


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd
    from backports import zstd

    return zstd


def _errors() -> tuple[type[Exception], ...]:
    """The errors of truncated and damaged archives."""
    return OSError, EOFError, zlib.error, _zstd().ZstdError
