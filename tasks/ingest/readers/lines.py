"""The physical lines of a file as bytes, in any encoding, with or without a byte order mark, in bounded memory."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from tasks.ingest.readers.compression import Content

MAX_RECORD_BYTES = 32 * 1024 * 1024
"""A longer line is kept in pieces, as records that cannot be parsed: a file without line ends must not fill the memory."""
MAX_RECORD_LINES = 1_000_000
"""As is a record of more lines: each line costs memory, however short."""

_MARKS = (  # the longer mark first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOWEST_SURROGATE = 0xDC00
_SURROGATES = re.compile("([\udc00-\udcff]+)")
_BLANK = b" \t\r\n"
UNDECODED = re.compile("[\ud800-\udfff]")
"""Matches the half surrogates that stand for bytes that could not be decoded."""


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    content: bytes
    is_whole: bool = True
    """False for a part of a line that is longer than MAX_RECORD_BYTES."""


def encoding_of(content: Content, declared: str) -> tuple[str, int]:
    """The encoding of the byte order mark, else the declared one; and the length of the mark in bytes."""
    with content.open() as file:
        start = file.read(4)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, len(mark)
    # without a mark, Python's "utf-16" would expect one at the start of every line
    plain = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
    return plain.get(codecs.lookup(declared).name, declared), 0


def _keep(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(_LOWEST_SURROGATE + byte) for byte in error.object[error.start : error.end]), error.end


KEEP = "strop-keep"
"""Error handler of decoders: bytes that cannot be decoded become half surrogates, which `encode_back` reverts."""
codecs.register_error(KEEP, _keep)


def encode_back(text: str, encoding: str) -> bytes:
    """The bytes that a text was decoded from with KEEP."""
    return b"".join(
        bytes(ord(character) - _LOWEST_SURROGATE for character in part)
        if index % 2
        else part.encode(encoding, "backslashreplace")
        for index, part in enumerate(_SURROGATES.split(text))
    )


def read_lines(
    content: Content,
    declared: str,
    offset_bytes: int = 0,
    first_number: int = 1,
    skips_blank: Callable[[], bool] = lambda: False,
) -> tuple[str, Iterator[Line]]:
    """The file's encoding, and its lines with their line ends.

    Args:
        offset_bytes: where to begin, at a line's start: the length of a part that was read before.
        first_number: the number of that line.
        skips_blank: called after a blank line; whether further blank lines may be skipped.
    """
    encoding, mark_bytes = encoding_of(content, declared)
    return encoding, _lines(content, offset_bytes or mark_bytes, "\n".encode(encoding), first_number, skips_blank)


def _lines(
    content: Content, start: int, line_end: bytes, number: int, skips_blank: Callable[[], bool]
) -> Iterator[Line]:
    with content.open() as file:
        if content.archive:
            file.read(start)  # an archive is not seekable; this is only the mark
        else:
            file.seek(start)
        pieces = (
            _wide_pieces(file, line_end) if len(line_end) > 1 else iter(lambda: file.readline(MAX_RECORD_BYTES), b"")
        )
        is_begun = False
        for piece in pieces:
            is_end = piece.endswith(line_end)
            is_all = (is_end or len(piece) < MAX_RECORD_BYTES) and (not is_begun or piece.isspace())
            yield Line(number, piece, is_all)
            number += is_end
            is_begun = not is_end
            if len(line_end) == 1 and is_end and piece.isspace() and skips_blank():
                number += _skip_blank(file)


def _skip_blank(file: Any) -> int:
    """Skips blank lines, and returns how many: a decompression bomb may have a thousand million of them."""
    skipped = 0
    while ahead := file.peek(1):
        blank = len(ahead) - len(ahead.lstrip(_BLANK))
        end = ahead.rfind(b"\n", 0, blank) + 1
        if not end:
            break
        skipped += ahead.count(b"\n", 0, end)
        file.read(end)
    return skipped


def _wide_pieces(file: BinaryIO, line_end: bytes) -> Iterator[bytes]:
    """Lines of UTF-16 and UTF-32, in which a line end is several bytes, aligned to characters."""
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
        if searched >= MAX_RECORD_BYTES:
            yield bytes(buffer[:searched])
            del buffer[:searched]
            searched = 0
    if buffer:
        yield bytes(buffer)


def _aligned_find(buffer: bytearray, needle: bytes, start: int, width: int) -> int:
    position = buffer.find(needle, start)
    while position >= 0 and position % width:
        position = buffer.find(needle, position + 1)
    return position
