"""Files as physical lines of bytes, in any encoding, a byte order mark understood, in bounded memory."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from tasks.ingest.readers.compression import Content

MAX_RECORD_BYTES = 32 * 1024 * 1024
"""A longer line is kept in pieces, as what did not parse: one file without line ends must not fill the memory."""
MAX_RECORD_LINES = 1_000_000
"""So is a record of more lines, where a record may have several: each line costs memory, however short it is."""

_MARKS = (  # the longer mark first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOWEST_KEPT = 0xDC00
_KEPT = re.compile("([\udc00-\udcff]+)")
_BLANK = b" \t\r\n"
UNDECODED = re.compile("[\ud800-\udfff]")
"""What is left in a text by bytes that did not decode."""


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    content: bytes
    is_whole: bool = True
    """False for a piece of a line that is longer than MAX_RECORD_BYTES."""


def encoding_of(content: Content, declared: str) -> tuple[str, int]:
    """The encoding by the byte order mark, else the declared one; and the length of the mark in bytes."""
    with content.open() as file:
        start = file.read(4)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, len(mark)
    # without a mark, Python's "utf-16" would expect one again on every line
    plain = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
    return plain.get(codecs.lookup(declared).name, declared), 0


def _keep(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(_LOWEST_KEPT + byte) for byte in error.object[error.start : error.end]), error.end


KEEP = "strop-keep"
"""Error handling of a decoder: what does not decode stays in the text as half surrogates, and `turned_back` finds it."""
codecs.register_error(KEEP, _keep)


def turned_back(text: str, encoding: str) -> bytes:
    """The bytes that a text was decoded from with KEEP."""
    return b"".join(
        bytes(ord(character) - _LOWEST_KEPT for character in part)
        if place % 2
        else part.encode(encoding, "backslashreplace")
        for place, part in enumerate(_KEPT.split(text))
    )


def never() -> bool:
    return False


def always() -> bool:
    return True


def read_lines(
    content: Content,
    declared: str,
    offset_bytes: int = 0,
    first_number: int = 1,
    skips_blank: Callable[[], bool] = never,
) -> tuple[str, Iterator[Line]]:
    """The file's encoding, and its lines with their line ends.

    Args:
        offset_bytes: where to begin, at a line's start: for a file whose earlier part was read before.
        first_number: the number of the line there.
        skips_blank: asked behind a blank line: may further blank ones be passed over?
    """
    encoding, mark_bytes = encoding_of(content, declared)
    return encoding, _lines(content, offset_bytes or mark_bytes, "\n".encode(encoding), first_number, skips_blank)


def _lines(
    content: Content, start: int, line_end: bytes, number: int, skips_blank: Callable[[], bool]
) -> Iterator[Line]:
    with content.open() as file:
        if content.archive:
            file.read(start)  # an archive has no places to go to; this is the mark alone
        else:
            file.seek(start)
        pieces = _pieces_of_wide(file, line_end) if len(line_end) > 1 else iter(_narrow(file), b"")
        is_begun = False
        for piece in pieces:
            is_end = piece.endswith(line_end)
            is_all = (is_end or len(piece) < MAX_RECORD_BYTES) and (not is_begun or piece.isspace())
            yield Line(number, piece, is_all)
            number += is_end
            is_begun = not is_end
            if len(line_end) == 1 and is_end and piece.isspace() and skips_blank():
                number += _pass_over_blank(file)


def _pass_over_blank(file: Any) -> int:
    """Passes over the blank lines at hand, and says how many: an archive bomb may hold a thousand million of them."""
    passed = 0
    while ahead := file.peek(1):
        blank = len(ahead) - len(ahead.lstrip(_BLANK))
        end = ahead.rfind(b"\n", 0, blank) + 1
        if not end:
            break
        passed += ahead.count(b"\n", 0, end)
        file.read(end)
    return passed


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
        if searched >= MAX_RECORD_BYTES:
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
