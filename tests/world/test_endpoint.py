"""What the shared client of endpoints adds to the generator's tests: counts of tokens, and bounds on size and time."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from support.toyendpoint import Reply

from tasks.errors import SourceError
from tasks.inference import response
from tasks.inference.connection import Completion, Connection
from tasks.inference.endpoint import Endpoint

pytest_plugins = ["support.toyendpoint"]


def endpoint(base_url: str, **settings: Any) -> Endpoint:
    defaults: dict[str, Any] = {"model": "toy", "owner": "the test", "timeout_seconds": 5.0, "attempts": 2}
    return Endpoint(Connection(base_url, **(defaults | settings)), first_pause_seconds=0.01)


def ignore(index: int, completion: Completion) -> None:
    pass


def body(text: str, **usage: Any) -> str:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage})


def test_tokens_are_counted_as_the_endpoint_says_and_nonsense_counts_as_none(start_endpoint: Any) -> None:
    script = [body("a", prompt_tokens=7, completion_tokens=2), body("b", prompt_tokens="7", completion_tokens=-1)]
    toy = start_endpoint(lambda prompt: Reply(body=script.pop(0)))
    answers = endpoint(toy.base_url, parallel_requests=1).complete(["x", "y"], ignore)
    assert answers == [Completion("a", False, 7, 2), Completion("b", False, 0, 0)]


def test_further_fields_are_sent_and_a_temperature_only_if_it_is_set(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: "good")
    endpoint(toy.base_url, extra={"response_format": {"type": "json_object"}}).complete(["x"], ignore)
    sent = toy.requests[0]["body"]
    assert sent["response_format"] == {"type": "json_object"}
    assert "temperature" not in sent


def test_a_response_without_end_is_not_read_to_its_end(start_endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "MAX_BYTES", 1000)
    toy = start_endpoint(lambda prompt: "x" * 2000)
    with pytest.raises(SourceError, match=r"more than 1,000 bytes.*2 times"):
        endpoint(toy.base_url).complete(["x"], ignore)


def test_a_server_that_sends_a_byte_now_and_then_is_too_slow() -> None:
    ended = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            while not ended.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.daemon_threads = True
    server.handle_error = lambda request, client: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        with pytest.raises(SourceError, match=r"no complete answer within 0.3 s"):
            endpoint(url, timeout_seconds=0.3, attempts=1).complete(["x"], ignore)
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


def test_an_error_of_the_receiver_ends_the_requests(start_endpoint: Any) -> None:
    toy = start_endpoint(lambda prompt: "good")

    def refuse(index: int, completion: Completion) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        endpoint(toy.base_url, parallel_requests=1).complete([str(number) for number in range(50)], refuse)
    assert len(toy.prompts) == 1
