"""The gateway that serve.py measures, in a process of its own: one version, its engine in a worker, and the recorder.

    GatewayProcess(served, folder)     # `main` is its code; the first line of its input is the `Served` in JSON

It has what `strop serve` has between a client and the engine (HTTP, keys, limits, records), and no ledger: one version serves.
Further lines are requests that go to the engine alone, in the same process and to the same worker: {"text", "max_tokens"}. Their
answers are lines, too: seconds to the first piece of text, and to the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import REPOSITORY

MODEL = "benchmark"


@dataclass(frozen=True)
class Served:
    """What is served.

    Args:
        folder: of the model: full weights, or an adapter on `base`.
        base: the section `base:` of the project's params.yaml.
        spool: the folder of the records; "": nothing is recorded.
    """

    folder: str
    base: dict[str, Any]
    spool: str
    rows: int = 16


class GatewayProcess:
    """A running gateway. To be used with `with`."""

    def __init__(self, served: Served, cwd: Path) -> None:
        folders = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "benchmarks")])
        environment = {**os.environ, "PYTHONPATH": folders, "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from serve_gateway import main; main()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, env=environment, text=True,
        )  # fmt: skip
        started = self.ask(asdict(served))
        self.port, self.key, self.facts = started["port"], started["key"], started["facts"]
        self.pids: dict[str, int] = started["pids"]
        """`gateway`, `worker`, and `recorder` where requests are recorded."""

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the gateway ended with code {self.process.wait()}: its messages are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def direct(self, text: str, max_tokens: int) -> tuple[float, float]:
        """A request to the engine alone: seconds to the first piece of text, and to the end."""
        answer = self.ask({"text": text, "max_tokens": max_tokens})
        return answer["first"], answer["seconds"]

    def __enter__(self) -> GatewayProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


async def run() -> None:
    """The process: until its standard input is closed."""
    from tasks.feedback.settings import RecordSettings
    from tasks.pii.settings import PiiSettings
    from tasks.serve.access.keys import ALL_ROLES, Caller, Key, KeyRing, digest_of
    from tasks.serve.app.gateway import Gateway
    from tasks.serve.app.interfaces import RecordsNothing
    from tasks.serve.engine.client import WorkerEngine
    from tasks.serve.engine.messages import WorkerSpec
    from tasks.serve.record.client import RecorderClient
    from tasks.serve.record.start import Start
    from tasks.serve.server import GatewayServer, listen
    from tasks.serve.settings import ServeSettings
    from tasks.serve.spooled import Spooled

    loop = asyncio.get_running_loop()
    served = Served(**json.loads(await loop.run_in_executor(None, sys.stdin.readline)))
    engine = await WorkerEngine.start(WorkerSpec(served.folder, served.base, "fp32", 64, rows=served.rows))
    pids = {"gateway": os.getpid(), "worker": engine.pid}
    spooled = None
    if served.spool:
        spooled = Spooled(RecorderClient(Start(served.spool, RecordSettings(), PiiSettings(), 30)))
        await spooled.client.open()
        pids["recorder"] = spooled.client._process.pid  # type: ignore[union-attr]
    key = secrets.token_hex(32)
    ring = KeyRing([Key(digest_of(key.encode()), Caller("benchmark", ALL_ROLES))])
    gateway = Gateway(ServeSettings(), one_version(engine), ring, spooled or RecordsNothing(), spooled)
    listener = listen("127.0.0.1", 0)
    server = GatewayServer(gateway)
    serving = asyncio.ensure_future(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    print(
        json.dumps({"port": listener.getsockname()[1], "key": key, "pids": pids, "facts": asdict(engine.facts)}),
        flush=True,
    )
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await ask_engine(engine, **json.loads(line))), flush=True)
    server.should_exit = True
    await serving
    await engine.close()
    if spooled is not None:
        await spooled.client.close()


async def ask_engine(engine: Any, text: str, max_tokens: int) -> dict[str, float]:
    from tasks.serve.engine.request import ChatPrompt, Delta, Request, Sampling

    prompt = ChatPrompt(({"role": "user", "content": text},))
    request = Request(f"resp_{secrets.token_hex(16)}", prompt, Sampling(max_tokens))
    began, first = time.perf_counter(), 0.0
    async for event in engine.answer(request):
        if isinstance(event, Delta) and event.text and not first:
            first = time.perf_counter() - began
    seconds = time.perf_counter() - began
    return {"first": first or seconds, "seconds": seconds}


def one_version(engine: Any) -> Any:
    """A router with one version."""
    from tasks.serve.app.interfaces import ModelCard, Readiness, Route, Unit

    route = Route(f"{MODEL}@v1", 1, "d" * 64, engine)

    class OneVersion:
        @asynccontextmanager
        async def lease(self, name: str, unit: Unit) -> AsyncIterator[Route]:
            yield route

        def models(self) -> Sequence[ModelCard]:
            return [ModelCard(MODEL, 1, 0, engine.facts)]

        @property
        def readiness(self) -> Readiness:
            return Readiness(engine.is_alive, 1)

    return OneVersion()


def main() -> None:
    asyncio.run(run())
