"""The uncompressed size of an Arrow stream's compressed buffers, from the header of each message, before any is unpacked.

`datasets` maps its files into memory; a stream with compressed buffers is unpacked as a whole when it is opened.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2


def unpacked_bytes(path: Path) -> int:
    """Uncompressed size of the stream's compressed buffers; 0 without any.

    Raises:
        pyarrow.ArrowException, OSError: it is not an Arrow stream.
    """
    import pyarrow as pa

    total = 0
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.MessageReader.open_stream(source)
        for message in iter(lambda: _next(reader), None):
            total += _unpacked(message.metadata.to_pybytes(), message.body)
    return total


def _next(reader: Any) -> Any:
    try:
        return reader.read_next_message()
    except StopIteration:
        return None


def _unpacked(header: bytes, body: Any) -> int:
    """Of one message (format/Message.fbs): a compressed buffer begins with its uncompressed length, or -1."""
    try:
        message = struct.unpack_from("<I", header, 0)[0]
        kind = _field(header, message, 1)
        batch = _table(header, message, 2)
        if kind is None or batch is None:
            return 0
        if header[kind] == _DICTIONARY_BATCH:
            batch = _table(header, batch, 1)
        elif header[kind] != _RECORD_BATCH:
            return 0
        buffers = _table(header, batch, 2) if batch is not None else None
        if batch is None or buffers is None or _field(header, batch, 3) is None:
            return 0
        total = 0
        for number in range(struct.unpack_from("<I", header, buffers)[0]):
            offset, length = struct.unpack_from("<qq", header, buffers + 4 + 16 * number)
            if length >= 8:
                size = body.slice(offset, 8).to_pybytes()
                total += max(int.from_bytes(size, "little", signed=True), 0)
        return total
    except (struct.error, IndexError):
        return 0  # not a message: its reader reports it


def _field(content: bytes, table: int, number: int) -> int | None:
    """Position of a field of a flatbuffer's table; None if it is absent."""
    vtable = table - struct.unpack_from("<i", content, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", content, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", content, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _table(content: bytes, table: int, number: int) -> int | None:
    """Position of the table or vector that a field refers to."""
    position = _field(content, table, number)
    return None if position is None else position + struct.unpack_from("<I", content, position)[0]
