"""The server of the demo's loop, with toy engines: a gateway in a thread that follows the ledger in the working directory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.demo.client import open_client
from flows.demo.data import news_articles
from flows.demo.rounds import FIRST_SECTIONS
from support.gateway import SECRETS, Recording, ToyFeedback, key_ring
from support.toyengine import ToyEngine
from support.toyledger import ToyFactory, World, world
from tasks.model_store.ledger_entries import Entry
from tasks.serve.app.gateway import Gateway
from tasks.serve.engine.request import Request, TaskPrompt
from tasks.serve.server import GatewayServer, listen


class Engine(ToyEngine):
    """Version 1 has learned three of five sections, later ones all."""

    labels: dict[str, str]

    def _text(self, request: Request) -> str:
        if not isinstance(request.prompt, TaskPrompt):
            return "a probe"
        section = self.labels[request.prompt.fields["text"]]
        is_known = self.name != "v1" or section in FIRST_SECTIONS
        return section if is_known else "business"


class Factory(ToyFactory):
    async def load(self, entry: Entry) -> ToyEngine:
        engine = Engine(f"v{entry.version}")
        engine.labels = {article["text"]: article["label"] for article in news_articles()}
        self.engines.append((entry.version, engine))
        return engine


class AnyFeedback(ToyFeedback):
    async def submit(self, document: Any, caller: Any, idempotency_key: str) -> Any:
        self.submitted.append((dict(document), caller.name, idempotency_key))
        return {"id": f"fb_{len(self.submitted)}"}


class ToyServer:
    """A gateway that follows the ledger in the working directory, in a thread."""

    def __init__(self) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.feedback = AnyFeedback()
        self.ended = False
        self.world: World | None = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        async with world() as self.world:
            self.world.factory.load = Factory().load  # type: ignore[method-assign]
            gateway = Gateway(self.world.settings, self.world.versions, key_ring(), Recording(), self.feedback)
            server = GatewayServer(gateway)
            work = asyncio.ensure_future(server.serve([self.listener]))
            while not self.ended:
                await asyncio.sleep(0.01)
            server.should_exit = True
            await work

    def wait_for(self, version: int) -> None:
        while not (self.world and self.world.versions.readiness.version == version):
            self.thread.join(0.005)

    def client(self) -> Any:
        return open_client(self.url, SECRETS["admin"])


@contextmanager
def toy_serving(log: Path) -> Iterator[ToyServer]:
    server = ToyServer()
    server.thread.start()
    try:
        yield server
    finally:
        server.ended = True
        server.thread.join(10)
