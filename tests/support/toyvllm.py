"""A toy server that speaks vLLM's API on a loopback port, in a thread, and misbehaves on request.

It has a base and adapters that are loaded by `/v1/load_lora_adapter`. `respond` computes an answer: the path of the adapter ("" for
the base) and a prompt → its tokens, each with its log probability and those of the most probable ones.
"""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Token = tuple[int, float, dict[int, float]]
Respond = Callable[[str, list[int]], list[Token]]
BASE = "toy-base"


@dataclass
class Faults:
    ignores_adapters: bool = False
    serves_old: bool = False
    """A new adapter answers as the one that was loaded before it."""
    truncates: int | None = None
    """Answers end after so many tokens, as if they were complete."""
    stalls_after: int | None = None
    """After so many tokens nothing is sent any more."""
    comments: bool = False
    """While it stalls it sends comments, as a proxy does."""
    dies_after: int | None = None
    """After so many tokens the connection is closed."""
    ends_early: bool = False
    """The stream ends properly, without the end of the answer."""
    rejects: tuple[int, str, dict[str, str]] | None = None
    """Status, body and headers of each completion."""
    rejects_adapters: str = ""
    loads_nothing: bool = False
    """It confirms adapters, but does not have them."""
    has_ids: bool = True
    foreign_tokens: bool = False
    is_unhealthy: bool = False
    reason: str | None = None
    """The finish reason, in place of the true one."""


@dataclass
class ToyVllm:
    tokenizer: Any
    respond: Respond
    faults: Faults = field(default_factory=Faults)
    version: str = "0.11.0"
    context: int = 512
    adapters: dict[str, str] = field(default_factory=dict)
    """Name → path, in the order of loading."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)
    lost_clients: int = 0

    def __post_init__(self) -> None:
        toy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                documents: dict[str, Any] = {
                    "/health": {},
                    "/version": {"version": toy.version},
                    "/v1/models": toy._models(),
                }
                status = 200 if self.path in documents else 404
                if self.path == "/health" and toy.faults.is_unhealthy:
                    status = 503
                self.send_document(status, json.dumps(documents.get(self.path, {})))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                try:
                    toy._post(self, self.path, body)
                except (BrokenPipeError, ConnectionResetError):
                    toy.lost_clients += 1

            def send_document(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
                content = text.encode()
                self.send_response(status)
                for name, value in {**(headers or {}), "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, client: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _models(self) -> dict[str, Any]:
        base = {"id": BASE, "object": "model", "root": "/base", "parent": None, "max_model_len": self.context}
        adapters = [
            {"id": name, "object": "model", "root": path, "parent": BASE} for name, path in self.adapters.items()
        ]
        return {"object": "list", "data": [base, *adapters]}

    def _post(self, handler: Any, path: str, body: dict[str, Any]) -> None:
        if path == "/v1/load_lora_adapter":
            self._load(handler, body)
        elif path == "/v1/unload_lora_adapter":
            self.unloaded.append(body["lora_name"])
            known = self.adapters.pop(body["lora_name"], None)
            handler.send_document(200 if known else 404, "Success" if known else error("not found"))
        else:
            self._complete(handler, body)

    def _complete(self, handler: Any, body: dict[str, Any]) -> None:
        self.requests.append(body)
        answers: list[tuple[list[Token], str]] = []
        refusal = self._refusal(body)
        if refusal is None:
            answers = [self._answer(body, number) for number in range(body.get("n", 1))]
        if refusal is not None:
            handler.send_document(*refusal)
        elif body.get("stream"):
            self._stream(handler, body, answers)
        else:
            texts = [self._text(tokens, len(tokens)) for tokens, _ in answers]
            choices = [self._entry(body, n, answers[n][0], texts[n], answers[n][1]) for n in range(len(answers))]
            handler.send_document(200, json.dumps({"object": "text_completion", "choices": choices}))

    def _refusal(self, body: dict[str, Any]) -> tuple[int, str, dict[str, str]] | None:
        if self.faults.rejects is not None:
            return self.faults.rejects
        if body["model"] not in (BASE, *self.adapters) and "folder" not in body:
            return 404, error(f"The model `{body['model']}` does not exist."), {}
        if len(body["prompt"]) + body["max_tokens"] > self.context:
            return 400, error(f"This model's maximum context length is {self.context} tokens."), {}
        return None

    def _load(self, handler: Any, body: dict[str, Any]) -> None:
        if self.faults.rejects_adapters:
            handler.send_document(400, error(self.faults.rejects_adapters))
        elif body["lora_name"] in self.adapters:
            handler.send_document(400, error("has already been loaded"))
        else:
            if not self.faults.loads_nothing:
                self.adapters[body["lora_name"]] = body["lora_path"]
            handler.send_document(200, "Success: LoRA adapter added successfully.")

    def _answer(self, body: dict[str, Any], number: int) -> tuple[list[Token], str]:
        path = body.get("folder") or self.adapters.get(body["model"], "")
        if self.faults.ignores_adapters:
            path = ""
        elif self.faults.serves_old and path:
            path = next(iter(self.adapters.values()))
        tokens = self.respond(path, [*body["prompt"], number] if number else body["prompt"])
        reason = "stop"
        if len(tokens) > body["max_tokens"]:
            tokens, reason = tokens[: body["max_tokens"]], "length"
        if self.faults.truncates is not None:
            tokens, reason = tokens[: self.faults.truncates], "stop"
        return tokens, self.faults.reason or reason

    def _text(self, tokens: list[Token], count: int) -> str:
        """The text of the first tokens, without the torn character at their end."""
        return str(self.tokenizer.decode([token for token, _, _ in tokens[:count]])).rstrip("\ufffd")

    def _entry(
        self, body: dict[str, Any], number: int, tokens: list[Token], text: str, reason: str | None
    ) -> dict[str, Any]:
        ids = [token for token, _, _ in tokens]
        entry: dict[str, Any] = {"index": number, "text": text, "finish_reason": reason}
        if self.faults.has_ids and body.get("return_token_ids"):
            entry["token_ids"] = [10_000_000] if self.faults.foreign_tokens else ids
        if (top := body.get("logprobs")) is not None:
            best = [{token: value, **dict([*others.items()][:top])} for token, value, others in tokens]
            entry["logprobs"] = {
                "tokens": [f"token_id:{each}" for each in ids],
                "token_logprobs": [value for _, value, _ in tokens],
                "top_logprobs": [{f"token_id:{each}": value for each, value in row.items()} for row in best],
            }
        return entry

    def _stream(self, handler: Any, body: dict[str, Any], answers: list[tuple[list[Token], str]]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for place in range(max(len(tokens) for tokens, _ in answers)):
            if place == self.faults.stalls_after:
                self._stall(handler)
                return
            if place == self.faults.dies_after:
                handler.connection.close()
                handler.close_connection = True
                return
            for number, (tokens, reason) in enumerate(answers):
                if place < len(tokens):
                    is_last = place == len(tokens) - 1 and not self.faults.ends_early
                    piece = self._text(tokens, place + 1).removeprefix(self._text(tokens, place))
                    entry = self._entry(body, number, tokens[place : place + 1], piece, reason if is_last else None)
                    self._send(handler, f"data: {json.dumps({'choices': [entry]}, ensure_ascii=False)}\n\n")
        self._send(handler, "data: [DONE]\n\n")
        handler.wfile.write(b"0\r\n\r\n")

    def _stall(self, handler: Any) -> None:
        """Until the client leaves."""
        for _ in range(200):
            readable, _, _ = select.select([handler.connection], [], [], 0.02)
            if readable and handler.connection.recv(1) == b"":
                raise BrokenPipeError
            if self.faults.comments:
                self._send(handler, ": waiting\n\n")

    def _send(self, handler: Any, text: str) -> None:
        content = text.encode()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))


def error(message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "BadRequestError", "code": 400}})
