"""Connections of slow, malformed and too many clients end; others are answered meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.gateway import SECRETS, RunningServer, make_gateway, served
from support.toyengine import ToyEngine

from tasks.errors import StropError
from tasks.serve.server import listen

ENGINE = ToyEngine()
CONNECTIONS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    gateway = make_gateway(ENGINE, receive_seconds=0.2, send_seconds=0.2, connections=CONNECTIONS, body_bytes=5000)
    with served(gateway) as running:
        yield running


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def head(length: int, path: str = "/v1/chat/completions", key: str = SECRETS["app"]) -> bytes:
    lines = ("Host: localhost", f"Authorization: Bearer {key}", f"Content-Length: {length}")
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()


def response(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and body; the server closes the connection, or it is a small response with a length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    lines, _, body = received.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines.split(b"\r\n")[1:])
    while len(body) < int(headers[b"content-length"]):
        body += connection.recv(65536)
    return int(lines.split()[1]), json.loads(body)


def code(connection: socket.socket) -> tuple[int, str]:
    status, body = response(connection)
    return status, body["error"]["code"]


def is_answered(server: RunningServer) -> bool:
    body = json.dumps({"model": "toy", "messages": [{"role": "user", "content": "在吗"}]}).encode()
    with connect(server) as connection:
        connection.sendall(head(len(body)) + body)
        status, answer = response(connection)
        return status == 200 and answer["choices"][0]["message"]["content"] == "在吗"


@pytest.mark.parametrize("begin", [b"", b"POST /v1/chat", head(100)[:-2]])
def test_a_request_whose_head_does_not_arrive_is_refused(server: RunningServer, begin: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(begin)
        assert is_answered(server)
        assert code(connection) == (408, "request_timeout")
        assert connection.recv(1) == b""


def test_a_request_whose_body_does_not_arrive_is_refused(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(head(100) + b"{")
        assert code(connection) == (408, "request_timeout")


def test_the_body_of_a_refused_request_is_not_awaited_for_ever(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(head(100_000, key="wrong") + b"{")
        assert code(connection) == (401, "invalid_api_key")
        assert connection.recv(1) == b""


def test_what_is_not_http_is_refused_in_json(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert code(connection) == (400, "malformed_http")


def test_a_connection_is_used_again_and_may_be_idle_longer_than_a_request(server: RunningServer) -> None:
    with connect(server) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert response(connection) == (200, {"status": "ok"})
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)


def test_a_client_that_does_not_read_its_stream_loses_it(server: RunningServer) -> None:
    ENGINE.pieces = lambda text: [text * 100] * 4000
    content = "读" * 100
    body = json.dumps({"model": "toy", "stream": True, "messages": [{"role": "user", "content": content}]}).encode()
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head(len(body)) + body)
        for _ in range(500):
            server.thread.join(0.01)
            if ENGINE.cancelled:
                break
    ENGINE.pieces = ToyEngine().pieces
    assert len(ENGINE.cancelled) == 1
    assert is_answered(server)


def test_connections_above_the_limit_are_refused(server: RunningServer) -> None:
    connections = [connect(server) for _ in range(CONNECTIONS)]
    with connect(server) as connection:
        assert code(connection) == (503, "too_many_connections")
    for connection in connections:
        connection.close()
    for _ in range(100):
        server.thread.join(0.01)
        if len(server.server.server_state.connections) < CONNECTIONS:
            break
    assert is_answered(server)


def test_a_port_that_is_used_is_one_line(server: RunningServer) -> None:
    with pytest.raises(StropError, match=f"127.0.0.1 port {server.port}: cannot listen .*strop serve --port"):
        listen("127.0.0.1", server.port)
