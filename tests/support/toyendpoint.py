"""A toy OpenAI-compatible server on a free loopback port, with scripted answers: good and invalid ones, 500, 429.

A test module with this module in `pytest_plugins` has the fixture `start_endpoint`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Reply:
    """The server's response instead of an answer."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    after_seconds: float = 0.0
    after: threading.Event | None = None


class ToyEndpoint:
    def __init__(self, answer: Callable[[str], str | Reply]) -> None:
        self.answer = answer
        self.prompts: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        toy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(toy._document(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._send(toy._reply(self.path, dict(self.headers), body))

            def _send(self, reply: Reply) -> None:
                time.sleep(reply.after_seconds)
                if reply.after is not None:
                    reply.after.wait(30)
                content = reply.body.encode()
                self.send_response(reply.status)
                for name, value in {**reply.headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, client: None  # type: ignore[method-assign]  # a client that left
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def _document(self, path: str) -> Reply:
        return Reply(404)

    def _reply(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        is_chat = path.endswith("/chat/completions")
        prompt = body["messages"][0]["content"] if is_chat else body["prompt"]
        with self._lock:
            self.prompts.append(prompt)
            self.requests.append({"path": path, "headers": headers, "body": body})
            answer = self.answer(prompt)
        if isinstance(answer, Reply):
            return answer
        choice = {"message": {"role": "assistant", "content": answer}} if is_chat else {"text": answer}
        return Reply(body=json.dumps({"choices": [{"index": 0, "finish_reason": "stop", **choice}]}))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def start_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], str | Reply]], ToyEndpoint]]:
    """Starts endpoints that end with the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started: list[ToyEndpoint] = []

    def start(answer: Callable[[str], str | Reply]) -> ToyEndpoint:
        started.append(ToyEndpoint(answer))
        return started[-1]

    yield start
    for endpoint in started:
        endpoint.close()
