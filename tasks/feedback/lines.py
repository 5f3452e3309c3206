"""Lines of the spool: `crc32 json`. A damaged line is detected, reported, and skipped. Pure but for reading files."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

READ_AT_ONCE = 1 << 20
_START = re.compile(rb'\{"kind":"(\w+)","id":"(\w+)"')


def encode_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line."""
    try:
        return checked_line(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return checked_line(json.dumps(record, separators=(",", ":")).encode())


def checked_line(content: bytes) -> bytes:
    """JSON as a line: its checksum, a space, the JSON."""
    return b"%08x %b\n" % (zlib.crc32(content), content)


@dataclass(frozen=True)
class Line:
    content: bytes
    """The JSON."""
    end: int
    """Where the next line begins."""

    @cached_property
    def start(self) -> tuple[str, str]:
        """Kind and id of the record, without parsing it."""
        match = _START.match(self.content)
        return (match[1].decode(), match[2].decode()) if match else ("", "")

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.content)
        return record


def read_lines(path: Path, offset: int = 0, damage: list[str] | None = None) -> Iterator[Line]:
    """The undamaged lines of a segment from an offset on. A last line without its end is not read: it is being written, or its
    writer was killed.

    Args:
        damage: a message about each damaged line is appended here.
    """
    rest = b""
    with path.open("rb") as file:
        file.seek(offset)
        while portion := file.read(READ_AT_ONCE):
            *lines, rest = (rest + portion).split(b"\n")
            for line in lines:
                start, offset = offset, offset + len(line) + 1
                content = line[9:]
                if line[8:9] == b" " and line[:8] == b"%08x" % zlib.crc32(content):
                    yield Line(content, offset)
                elif damage is not None:
                    damage.append(f"{path}: a damaged record of {len(line):,} bytes at byte {start:,} is skipped")
