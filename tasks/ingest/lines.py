"""Files as physical lines of bytes, in any encoding, a byte order mark understood, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer line is kept in pieces, as what did not parse: one file without line ends must not fill the memory."""

_MARKS = (  # the longer mark first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class RawRecord:
    """One record of a file: parsed, or the bytes it came in and why it did not parse."""

    line: int
    """Line (JSONL, CSV) or record number (JSON, Parquet) in the file, from 1."""
    record: Any = None
    raw: bytes | None = None
    error: str | None = None
    """As "code: detail"."""

    @property
    def is_parsed(self) -> bool:
        return self.raw is None


@dataclass(frozen=True)
class Line:
    number: int
    content: bytes
    is_whole: bool = True
    """False for a piece of a line that is longer than MAX_RECORD_BYTES."""


def detect_encoding(file: BinaryIO, declared: str) -> str:
    """The encoding by the byte order mark, else the declared one; the file then stands behind the mark."""
    start = file.read(4)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            file.seek(len(mark))
            return encoding
    file.seek(0)
    # without a mark, Python's "utf-16" would expect one again on every line
    return {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(
        codecs.lookup(declared).name, declared
    )


def keeping_errors(encoding: str) -> str:
    """The decoder's error handling that keeps what does not decode, as half surrogates that can be turned back."""
    return "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"


def read_lines(path: Path, declared: str) -> tuple[str, Iterator[Line]]:
    """The file's encoding, and its lines with their line ends."""
    with path.open("rb") as file:
        encoding = detect_encoding(file, declared)
        start = file.tell()
    return encoding, _lines(path, start, "\n".encode(encoding))


def _lines(path: Path, start: int, line_end: bytes) -> Iterator[Line]:
    with path.open("rb") as file:
        file.seek(start)
        number = 1
        pieces = _pieces_of_wide(file, line_end) if len(line_end) > 1 else iter(_narrow(file), b"")
        for piece in pieces:
            is_end = piece.endswith(line_end)
            yield Line(number, piece, is_whole=is_end or len(piece) < MAX_RECORD_BYTES)
            number += is_end


def _narrow(file: BinaryIO) -> Any:
    return lambda: file.readline(MAX_RECORD_BYTES)


def _pieces_of_wide(file: BinaryIO, line_end: bytes) -> Iterator[bytes]:
    """Lines of UTF-16 and UTF-32, where a line end is several bytes and counts only at a character's border."""
    width = len(line_end)
    buffer = bytearray()
    searched = 0
    while chunk := file.read(1024 * 1024):
        buffer += chunk
        while (end := _aligned_find(buffer, line_end, searched, width)) >= 0:
            yield bytes(buffer[: end + width])
            del buffer[: end + width]
            searched = 0
        searched = len(buffer) // width * width
        if len(buffer) >= MAX_RECORD_BYTES:
            yield bytes(buffer[:searched])
            del buffer[:searched]
            searched = 0
    if buffer:
        yield bytes(buffer)


def _aligned_find(buffer: bytearray, needle: bytes, start: int, width: int) -> int:
    found = buffer.find(needle, start)
    while found >= 0 and found % width:
        found = buffer.find(needle, found + 1)
    return found
