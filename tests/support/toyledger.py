"""A real ledger in a small repository, and engines that answer with the number of their version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.gateway import key_ring
from support.toyengine import ToyEngine
from support.toyworld import git
from support.versions import MODEL, record
from tasks.model_store.canaries import CanaryPlan, Unit
from tasks.model_store.ledger import append_entry, now, read_ledger
from tasks.model_store.ledger_entries import Entry, champion_version, judgement_of, open_canary
from tasks.runtime.files import canonical_json
from tasks.serve.app.application import make_application
from tasks.serve.app.gateway import Gateway
from tasks.serve.app.interfaces import Feedback, Recorder, RecordsNothing, Route
from tasks.serve.engine.request import EngineFailed
from tasks.serve.settings import ServeSettings
from tasks.serve.versions.ledger_watch import LedgerWatch
from tasks.serve.versions.versions import Versions


def make_ledger(versions: int = 1) -> None:
    """In the working directory: versions with a verdict, and the first one in service."""
    git("init", "-q", "-b", "main", "--template=")
    Path(".gitignore").write_text("/.strop/\n")
    git("add", ".gitignore")
    git("commit", "-q", "-m", "Start")
    for version in range(1, versions + 1):
        git("tag", f"{MODEL}@v{version}")
        record("judged", version, f"{version:064x}")
    record("promoted", 1)


def begin_canary(version: int, share: float, by: Unit = "conversation", **plan: Any) -> str:
    """Begins a canary of a version; returns its id."""
    entries = read_ledger(MODEL)
    judged = judgement_of(entries, version)
    champion = champion_version(entries)
    assert judged is not None
    assert champion is not None
    details = CanaryPlan(champion, share, by, **plan).text
    return append_entry(MODEL, replace(judged, kind="canary", when=now(), details=details), len(entries), remote="")


def end_canary(decision: str = "stopped") -> None:
    entries = read_ledger(MODEL)
    position = open_canary(entries)
    assert position is not None
    details = canonical_json({"decision": decision})
    append_entry(MODEL, replace(entries[position], kind="canary_ended", details=details), len(entries), remote="")


class ToyFactory:
    """Engines whose answers begin with `v3`; loading one takes some turns of the event loop."""

    def __init__(self) -> None:
        self.engines: list[tuple[int, ToyEngine]] = []
        self.refused: dict[int, Exception] = {}
        self.mute: set[int] = set()
        """Versions whose engine fails at its first request."""
        self.gate: asyncio.Event | None = None

    async def load(self, entry: Entry) -> ToyEngine:
        await asyncio.sleep(0.002)
        if self.gate is not None:
            await self.gate.wait()
        if error := self.refused.get(entry.version):
            raise error
        engine = ToyEngine(f"v{entry.version}")
        if entry.version in self.mute:
            engine.early = [EngineFailed("not finite")]
        self.engines.append((entry.version, engine))
        return engine

    @property
    def open(self) -> list[int]:
        """The versions whose engines are not closed."""
        return [version for version, engine in self.engines if not engine.is_closed]


class World:
    def __init__(self, recorder: Recorder | None = None, feedback: Feedback | None = None, **settings: Any) -> None:
        self.factory = ToyFactory()
        self.swaps: list[tuple[float, int]] = []
        """When each version began to serve."""
        self.settings = ServeSettings(**settings)
        self.versions = Versions(MODEL, self.factory, self.settings, self._note)
        self.watch = LedgerWatch(self.versions, poll=0.005)
        self.gateway = Gateway(self.settings, self.versions, key_ring(), recorder or RecordsNothing(), feedback)
        self.app = make_application(self.gateway)

    def _note(self, old: Route | None, new: Route) -> None:
        self.swaps.append((asyncio.get_running_loop().time(), new.version))

    async def serves(self, version: int) -> None:
        await reaches(lambda: bool(self.swaps) and self.swaps[-1][1] == version)


async def reaches(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    """A gateway that follows the ledger in the working directory."""
    world = World(**settings)
    tasks = [asyncio.ensure_future(work) for work in (world.watch.run(), world.versions.follow())]
    try:
        yield world
        assert not [task for task in tasks if task.done()], "a follower ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await world.versions.close()
        assert world.factory.open == []
