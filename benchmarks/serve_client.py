"""A client of serve.py: chat requests over one connection that is kept open, whole or as a stream, and several at once.

It does little, since its own time counts as the gateway's: a request is one write, and a response is read by its
length or chunks.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

TIMEOUT = 300.0


@dataclass(frozen=True)
class Reply:
    text: str
    tokens: int
    prompt_tokens: int
    first: float
    """Seconds to the first piece of text of a stream, else to the end."""
    seconds: float


class Client:
    def __init__(self, port: int, model: str, key: str = "") -> None:
        self.port, self.model = port, model
        self.head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {key or 'none'}\r\ncontent-length: "
        )
        self._connection: socket.socket | None = None
        self._file: io.BufferedReader | None = None

    def ask(self, text: str, max_tokens: int) -> Reply:
        request, file = self._request(text, max_tokens, stream=False)
        began = time.perf_counter()
        self._send(request)
        content = b"".join(_contents(file))
        seconds = time.perf_counter() - began
        body = json.loads(content)
        usage = body["usage"]
        answer = body["choices"][0]["message"]["content"] or ""
        return Reply(answer, usage["completion_tokens"], usage["prompt_tokens"], seconds, seconds)

    def stream(self, text: str, max_tokens: int, pieces: int | None = None) -> Reply:
        """Args:
        pieces: after so many pieces of text the connection is closed: the request is cancelled. None: the whole answer.
        """
        request, file = self._request(text, max_tokens, stream=True)
        began, first, texts = time.perf_counter(), 0.0, []
        self._send(request)
        for content in _contents(file):
            for piece in filter(None, map(_piece_of, content.split(b"\n"))):
                first = first or time.perf_counter() - began
                texts.append(piece)
            if pieces is not None and len(texts) >= pieces:
                self.close()
                break
        seconds = time.perf_counter() - began
        return Reply("".join(texts), len(texts), 0, first or seconds, seconds)

    def _request(self, text: str, max_tokens: int, *, stream: bool) -> tuple[bytes, io.BufferedReader]:
        """The bytes of a request, and the responses; connects if necessary."""
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file = self._connection.makefile("rb")
        assert self._file is not None
        document: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        document |= {"max_tokens": max_tokens, "temperature": 0, "stream": stream}
        body = json.dumps(document).encode()
        return f"{self.head}{len(body)}\r\n\r\n".encode() + body, self._file

    def _send(self, request: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(request)

    def close(self) -> None:
        if self._connection is not None and self._file is not None:
            self._file.close()
            self._connection.close()
        self._connection = self._file = None


def _contents(file: io.BufferedReader) -> Iterator[bytes]:
    """The parts of a response's body. Raises ConnectionError at an error."""
    status = file.readline().split(b" ", 2)[1:2]
    if not status:
        raise ConnectionError("the connection was closed")
    length, is_chunked = 0, False
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.lower().partition(b":")
        length = int(value) if name == b"content-length" else length
        is_chunked = is_chunked or (name == b"transfer-encoding" and b"chunked" in value)
    if status != [b"200"]:
        raise ConnectionError(f"{status[0].decode()}: {file.read(length).decode(errors='replace')[:500]}")
    if not is_chunked:
        yield file.read(length)
    while is_chunked and (size := int(file.readline(), 16)):
        yield file.read(size + 2)[:-2]
    if is_chunked:
        file.readline()


def _piece_of(line: bytes) -> str:
    if not line.startswith(b"data: {"):
        return ""
    document = json.loads(line[len(b"data: ") :])
    if "error" in document:
        raise ConnectionError(f"the stream ended with an error: {document['error']}")
    choices = document["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""


def ask_all(clients: Sequence[Client], texts: Sequence[str], max_tokens: int) -> tuple[list[Reply], float]:
    """Every text once, by as many clients at once as there are; the seconds until the last answer."""
    replies: dict[int, Reply] = {}
    left = list(enumerate(texts))[::-1]
    failures: list[BaseException] = []

    def work(client: Client) -> None:
        client.close()  # the server may have closed it in the meantime; it is opened again
        try:
            while left:
                number, text = left.pop()
                replies[number] = client.ask(text, max_tokens)
        except (OSError, IndexError, ValueError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if len(replies) < len(texts):
        raise SystemExit(f"a request failed: {failures[0] if failures else 'no answer'}")
    return [replies[number] for number in range(len(texts))], seconds
