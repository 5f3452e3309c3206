"""Decoded text of a file, read as needed, so that memory holds a few records at a time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tasks.ingest.readers import lines
from tasks.ingest.readers.lines import KEEP, encode_back

CHUNK_BYTES = 1024 * 1024
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass
class Text:
    """Bytes that cannot be decoded are half surrogates in it, which `bytes_of` reverts."""

    file: BinaryIO
    encoding: str
    buffer: str = ""
    position: int = 0
    is_at_end: bool = False
    _decoder: Any = field(default=None)

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder(self.encoding)(errors=KEEP)

    def more(self) -> bool:
        """Reads a chunk; False at the end of the file. Removes the text before `position`, which is then 0."""
        if self.is_at_end:
            return False
        # doubles the text: a long record is parsed from its start each time, and the total must stay linear
        length = len(self.buffer) - self.position
        chunk = self.file.read(max(CHUNK_BYTES, min(length, lines.MAX_RECORD_BYTES - length)))
        self.is_at_end = not chunk
        self.buffer = self.buffer[self.position :] + self._decoder.decode(chunk, final=self.is_at_end)
        self.position = 0
        return True

    def may_grow(self) -> bool:
        """Whether the present record is shorter than the bound of a record."""
        return len(self.buffer) - self.position < lines.MAX_RECORD_BYTES

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self.position = _SPACE.match(self.buffer, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if not self.more():
                return ""

    def rest(self) -> Iterator[str]:
        """The remaining text, in pieces of at most the length of a record."""
        while True:
            while len(self.buffer) - self.position < lines.MAX_RECORD_BYTES and self.more():
                pass
            piece = self.buffer[self.position : self.position + lines.MAX_RECORD_BYTES]
            if not piece:
                return
            self.position += len(piece)
            yield piece

    def bytes_of(self, text: str) -> bytes:
        return encode_back(text, self.encoding)
