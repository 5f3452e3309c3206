"""Decoded text of a file, read as needed, so that memory holds a few records at a time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tasks.ingest.readers import lines
from tasks.ingest.readers.lines import KEEP, turned_back

CHUNK_BYTES = 1024 * 1024
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass
class Text:
    """What does not decode stays in it as half surrogates, and can be turned back."""

    file: BinaryIO
    encoding: str
    buffer: str = ""
    position: int = 0
    is_at_end: bool = False
    _decoder: Any = field(default=None)

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder(self.encoding)(errors=KEEP)

    def more(self) -> bool:
        """Reads a chunk; False at the end of the file. What is behind `position` goes, and `position` is then 0."""
        if self.is_at_end:
            return False
        # as much again as is there: a long record is parsed from its start each time, and that must not add up
        have = len(self.buffer) - self.position
        chunk = self.file.read(max(CHUNK_BYTES, min(have, lines.MAX_RECORD_BYTES - have)))
        self.is_at_end = not chunk
        self.buffer = self.buffer[self.position :] + self._decoder.decode(chunk, final=self.is_at_end)
        self.position = 0
        return True

    def may_hold_more(self) -> bool:
        """Is the record at hand still shorter than a record may be?"""
        return len(self.buffer) - self.position < lines.MAX_RECORD_BYTES

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self.position = _SPACE.match(self.buffer, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if not self.more():
                return ""

    def rest(self) -> Iterator[str]:
        """All that is left, in pieces no longer than a record may be."""
        while True:
            while len(self.buffer) - self.position < lines.MAX_RECORD_BYTES and self.more():
                pass
            piece = self.buffer[self.position : self.position + lines.MAX_RECORD_BYTES]
            if not piece:
                return
            self.position += len(piece)
            yield piece

    def bytes_of(self, text: str) -> bytes:
        return turned_back(text, self.encoding)
