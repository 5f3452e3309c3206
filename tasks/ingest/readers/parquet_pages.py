"""The uncompressed size of the pages of a Parquet file, from the header of each page, before any is unpacked.

The sizes of row groups in a file's footer are not reliable. Those in page headers are: the reader unpacks no more than that. Their
sum, and the number of values, are the least that a file costs in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

HEADER_BYTES = 64 * 1024
"""A page header has a few numbers and perhaps statistics; of a longer one only so much is read."""
VALUE_BYTES = 8
"""The least memory of a value in a list: its levels and its index in a dictionary."""
DELTA_BYTE_ARRAY = 7
_DEEPEST = 12


@dataclass
class Chunk:
    """The pages of one column of one row group."""

    group: int
    column: int
    unpacked_bytes: int = 0
    largest_page_bytes: int = 0
    values: int = 0
    has_shared_prefixes: bool = False
    """Values may be stored as the previous value and a suffix: a short page may then have long ones."""


@dataclass(frozen=True)
class PageRange:
    """The position of the pages of a column of a row group."""

    starts: tuple[int, ...]
    packed_bytes: int


def page_ranges(file: BinaryIO, columns: int) -> list[list[PageRange]]:
    """Of each row group and column, by the file's footer. pyarrow has them too, but crashes on a damaged footer.

    Raises:
        ValueError: the footer cannot be read.
    """
    file.seek(-8, 2)
    size = int.from_bytes(file.read(8)[:4], "little")
    file.seek(-8 - size, 2)
    groups = _Footer(file.read(size)).fields().get(4, [])
    ranges = [[_page_range(chunk) for chunk in group.get(1, [])] for group in groups]
    if any(len(group) != columns for group in ranges):
        raise ValueError("its footer is damaged")
    return ranges


def _page_range(chunk: dict[int, Any]) -> PageRange:
    metadata = chunk.get(3, {})
    if 7 not in metadata:
        raise ValueError("its footer is damaged")
    return PageRange(tuple(metadata[field] for field in (9, 11) if metadata.get(field)), metadata[7])


def chunks_of(file: BinaryIO, ranges: list[PageRange], group: int) -> Iterator[Chunk]:
    """The sizes of each column of a row group.

    Args:
        file: the Parquet file, seekable.
        ranges: of the group's columns, from `page_ranges`.
    """
    for column, pages in enumerate(ranges):
        starts = pages.starts
        chunk = Chunk(group, column)
        position, end = min(starts, default=0), min(starts, default=0) + pages.packed_bytes
        while starts and position < end:
            file.seek(position)
            header = _Header(file.read(HEADER_BYTES))
            fields = header.fields()
            unpacked, packed = fields.get(2), fields.get(3)
            if not isinstance(unpacked, int) or not isinstance(packed, int) or packed < 0:
                break  # not a page: the reader reports it
            data = fields.get(5) or fields.get(8)
            chunk.unpacked_bytes += max(unpacked, 0)
            chunk.largest_page_bytes = max(chunk.largest_page_bytes, unpacked)
            if isinstance(data, dict):
                chunk.values += max(data.get(1, 0), 0)
                chunk.has_shared_prefixes |= data.get(2 if 5 in fields else 4) == DELTA_BYTE_ARRAY
            position += header.position + packed
        yield chunk


class _Header:
    """A page header in Thrift's compact protocol: structures as dictionaries from field number to value."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def fields(self, depth: int = 0) -> dict[int, Any]:
        """The fields that can be read."""
        values: dict[int, Any] = {}
        number = 0
        try:
            while depth < _DEEPEST and (byte := self._byte()):
                kind, step = byte & 0x0F, byte >> 4
                number = number + step if step else self._zigzag()
                values[number] = self._value(kind, depth)
        except (IndexError, ValueError):
            return {}
        return values

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            self.position += 8
        elif kind == 8:
            length = self._varint()
            self.position += length
        elif kind in (9, 10):
            size = self._byte()
            count = self._varint() if size >> 4 == 15 else size >> 4
            for _ in range(min(count, HEADER_BYTES)):
                self._value(2 if size & 0x0F in (1, 2) else size & 0x0F, depth + 1)
        elif kind == 12:
            return self.fields(depth + 1)
        else:
            raise ValueError(kind)
        if self.position > len(self.content):
            raise ValueError("cut off")
        return None

    def _byte(self) -> int:
        self.position += 1
        return self.content[self.position - 1]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 64:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise ValueError("no number")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


class _Footer(_Header):
    """A footer, in the same protocol: only 64-bit numbers, structures and lists of structures."""

    def fields(self, depth: int = 0) -> dict[int, Any]:
        values: dict[int, Any] = {}
        number = 0
        if depth >= _DEEPEST:
            raise ValueError("its footer is damaged")
        try:
            while byte := self._byte():
                kind, step = byte & 0x0F, byte >> 4
                number = number + step if step else self._zigzag()
                value = self._value(kind, depth)
                if kind in (6, 9, 12):  # the reader ignores other types
                    values[number] = value
        except IndexError:
            raise ValueError("its footer is damaged") from None
        return values

    def _value(self, kind: int, depth: int) -> Any:
        if kind != 9:
            return super()._value(kind, depth)
        size = self._byte()
        count = self._varint() if size >> 4 == 15 else size >> 4
        if count > len(self.content):
            raise ValueError("its footer is damaged")
        inner = size & 0x0F
        values = [
            super(_Footer, self)._value(2 if inner in (1, 2) else inner, depth + 1)
            if inner != 12
            else self.fields(depth + 1)
            for _ in range(count)
        ]
        return values if inner == 12 else []
