"""A gateway for tests: with a router of one version, called as ASGI in this process or served on a port in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from support.toyengine import ToyEngine
from tasks.serve.access.keys import ALL_ROLES, Caller, Key, KeyRing, digest_of
from tasks.serve.app.gateway import Gateway
from tasks.serve.app.interfaces import ModelCard, Readiness, Route, ServedAnswer, ServedRequest, Unit
from tasks.serve.errors import ApiError
from tasks.serve.server import GatewayServer, listen
from tasks.serve.settings import ServeSettings

SECRETS = {"admin": "a" * 64, "app": "b" * 64, "rater": "c" * 64}


def key_ring() -> KeyRing:
    roles = {"admin": ALL_ROLES, "app": frozenset({"predict"}), "rater": frozenset({"feedback"})}
    return KeyRing([Key(digest_of(SECRETS[name].encode()), Caller(name, roles[name])) for name in SECRETS])  # type: ignore[arg-type]


class OneVersion:
    """A router with one version, `toy@v1`."""

    def __init__(self, engine: ToyEngine) -> None:
        self.engine = engine
        self.units: list[Unit] = []
        self.problems: tuple[str, ...] = ()

    @asynccontextmanager
    async def lease(self, name: str, unit: Unit) -> AsyncIterator[Route]:
        if name not in ("", "toy", "toy@v1"):
            raise ApiError(404, "model_not_found", f"There is no model {name!r}.", "model")
        self.units.append(unit)
        yield Route("toy@v1", 1, "d" * 64, self.engine)

    def models(self) -> Sequence[ModelCard]:
        return [ModelCard("toy", 1, 0, self.engine.facts), ModelCard("toy@v2", 2, 0, None)]

    @property
    def readiness(self) -> Readiness:
        return Readiness(self.engine.is_alive, 1, self.problems)


class Recording:
    """A recorder that keeps what it gets."""

    def __init__(self) -> None:
        self.requests: list[ServedRequest] = []
        self.answers: list[ServedAnswer] = []

    def on_request(self, served: ServedRequest) -> None:
        self.requests.append(served)

    def on_answer(self, answer: ServedAnswer) -> None:
        self.answers.append(answer)


class ToyFeedback:
    def __init__(self) -> None:
        self.submitted: list[tuple[dict[str, Any], str, str]] = []

    async def submit(self, document: Mapping[str, Any], caller: Caller, idempotency_key: str) -> Mapping[str, Any]:
        if document.get("response_id") != "resp_1":
            raise ApiError(404, "response_not_found", "There is no such response.", "response_id")
        self.submitted.append((dict(document), caller.name, idempotency_key))
        return {"id": "feedback_1"}


def make_gateway(engine: ToyEngine | None = None, **limits: Any) -> Gateway:
    settings = ServeSettings.model_validate_json(json.dumps({"limits": limits}))
    return Gateway(settings, OneVersion(engine or ToyEngine()), key_ring(), Recording(), ToyFeedback())


class Response:
    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.status, self.headers, self.content = status, headers, content

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> tuple[int, str, str | None]:
        """Status, code and param."""
        return self.status, self.json["error"]["code"], self.json["error"]["param"]


async def call(
    app: Any, method: str, path: str, body: Any = None, *, key: str = "admin", headers: Mapping[str, str] | None = None
) -> Response:
    """One request, without HTTP. `body`: bytes, a list of bytes (chunks, without a length), or JSON."""
    content = body if isinstance(body, bytes | list) else json.dumps(body).encode() if body is not None else b""
    named = {
        "host": "127.0.0.1:8000",
        **({"authorization": f"Bearer {SECRETS[key]}"} if key else {}),
        **(headers or {}),
    }
    if isinstance(content, bytes):
        named.setdefault("content-length", str(len(content)))
    chunks = content if isinstance(content, list) else [content]
    messages = [{"type": "http.request", "body": each, "more_body": True} for each in chunks]
    messages[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    lines = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": lines, "query_string": b"", "root_path": ""}
    await app({**scope, "server": ("127.0.0.1", 8000), "scheme": "http"}, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], names, content)


class RunningServer:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = GatewayServer(gateway)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.server.serve([self.socket]))


@contextmanager
def served(gateway: Gateway) -> Iterator[RunningServer]:
    """The gateway on a free port, in a thread of this process."""
    running = RunningServer(gateway)
    running.thread.start()
    while not running.server.started:
        running.thread.join(0.005)
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(setattr, running.server, "should_exit", True)
        running.thread.join(10)
