"""Frames (messages.py) from a socket."""

from __future__ import annotations

import socket
from typing import Any

from tasks.serve.engine.messages import HEADER, content_of


def read_frame(connection: socket.socket) -> dict[str, Any] | None:
    """The next message; None at the end.

    Raises:
        OSError: the other process has ended.
    """
    header = _read(connection, HEADER.size)
    if header is None:
        return None
    payload = _read(connection, HEADER.unpack(header)[0])
    return None if payload is None else content_of(payload)


def _read(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        portion = connection.recv(min(count - len(received), 1 << 20))
        if not portion:
            return None
        received += portion
    return bytes(received)
