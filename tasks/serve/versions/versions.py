"""The loaded versions: the champion, and others that requests name. A router for the application.

versions = Versions("strop-model", factory, config.serve)
versions.update(entries)               # whenever the ledger has changed
await versions.follow()                # a task: loads each new champion beside the old one, then moves the pointer
async with versions.lease("strop-model", unit) as route: ...
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

from tasks.model_store.canaries import Canary
from tasks.model_store.ledger_entries import Entry, champion_of
from tasks.serve.app.interfaces import ModelCard, Readiness, Route, Unit
from tasks.serve.errors import ApiError
from tasks.serve.settings import ServeSettings
from tasks.serve.versions.beside import Beside
from tasks.serve.versions.canary_route import CanaryRoute
from tasks.serve.versions.loaded import EngineFactory, Loaded, VersionRefused, close, identity_of, load_and_probe
from tasks.serve.versions.names import challenger_of, entry_named, servable_names, version_name

logger = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
"""Before a version that was refused is loaded again: a base or a signature may have been restored."""

OnSwap = Callable[[Route | None, Route], None]


class Versions:
    """Args: on_swap: called with the former and the new version in service at the moment of the change."""

    def __init__(
        self,
        model: str,
        factory: EngineFactory,
        settings: ServeSettings,
        on_swap: OnSwap = lambda old, new: None,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.settings = model, settings
        self.entries: list[Entry] = []
        self.ledger_problem: str | None = None
        self._factory, self._on_swap, self._on_refusal = factory, on_swap, on_refusal
        self._champion: Loaded | None = None
        self._version_problem: str | None = None
        self._changed = asyncio.Event()
        self._closings: set[asyncio.Task[None]] = set()
        self._beside = Beside(self._load, self.leave, settings.loaded_versions)
        self._canary = CanaryRoute(model, self._beside)

    def update(self, entries: list[Entry], canary: Canary | None = None) -> None:
        """Takes the entries of a ledger that was verified, and the canary that runs by it."""
        self.entries, self._canary.canary = entries, canary
        self._changed.set()

    def note_ledger_problem(self, problem: str | None) -> None:
        """Why the ledger cannot be used now, whose entries so far stay valid; None: it can."""
        if problem is not None and problem != self.ledger_problem:
            kept = "The last known champion goes on serving" if self._champion else "No version serves until it can"
            logger.warning(f"serve: {problem}. {kept}")
        self.ledger_problem = problem

    async def follow(self) -> None:
        """Keeps the champion of the ledger in service; never returns."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._serve_champion()
                self._version_problem = None
            except VersionRefused as error:
                kept = f"; {self._champion.name} goes on serving" if self._champion else ""
                logger.warning(f"serve: {error}{kept}")
                self._version_problem = str(error)
                self._on_refusal()
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._changed.set)
            self._beside.keep(self._kept())
            self._leave_removed()

    async def _serve_champion(self) -> None:
        """Loads the champion beside the version in service until it is also the champion after that, then moves the pointer."""
        while (entry := champion_of(self.entries)) is not None:
            if self._champion is not None and self._champion.identity == identity_of(entry):
                return
            loaded = await self._beside.take(entry) or await self._load(entry)
            newest = champion_of(self.entries)
            if newest is None or identity_of(newest) != loaded.identity:  # another promotion came meanwhile
                self.leave(loaded)
                continue
            former, self._champion = self._champion, loaded
            self._on_swap(former.route() if former else None, loaded.route())
            logger.info(f"serve: {loaded.name} serves" + (f", in place of {former.name}" if former else ""))
            if former is not None:
                self.leave(former)

    @asynccontextmanager
    async def lease(self, name: str, unit: Unit) -> AsyncIterator[Route]:
        """As `Router.lease`. A request that has begun ends on its version."""
        if name in ("", self.model) and self._champion is not None:
            with self._lease_unpinned(self._champion, unit) as route:
                yield route
            return
        if not self.entries and self.ledger_problem is not None:
            message = "The ledger of the versions cannot be read; /ready has the reason."
            raise ApiError(503, "version_not_loaded", message, "model", retry_after=5)
        entry = entry_named(name, self.model, self.entries, allow_unpromoted=self.settings.allow_unpromoted)
        if name in ("", self.model):
            raise ApiError(503, "version_not_loaded", self._why_not_loaded(), "model", retry_after=5)
        loaded = self._champion
        if loaded is None or loaded.identity != identity_of(entry):
            loaded = await self._beside.obtain(entry)
        with self._hold(loaded):
            yield loaded.route()

    @contextmanager
    def _lease_unpinned(self, champion: Loaded, unit: Unit) -> Iterator[Route]:
        """The champion, or the canary for its units."""
        arm, arm_unit, canary = self._canary.choose(unit, champion)
        if arm:
            self._canary.note_problem(champion)
        route = champion.route(arm, arm_unit)
        with self._hold(champion):
            if canary is None:
                yield route
            else:
                with self._hold(canary):
                    yield canary.route(arm, arm_unit, fallback=route)

    @property
    def challenger(self) -> Entry | None:
        """The version that answers unseen."""
        return challenger_of(self.entries)

    @contextmanager
    def lease_loaded(self, entry: Entry) -> Iterator[Route | None]:
        """Leases a version that is loaded beside the champion, whether or not requests may name it; None: it is not."""
        loaded = self._beside.find(identity_of(entry))
        if loaded is None or not loaded.engine.is_alive:
            yield None
        else:
            with self._hold(loaded):
                yield loaded.route()

    @contextmanager
    def _hold(self, loaded: Loaded) -> Iterator[None]:
        """Nothing may be awaited between the choice of a version and this, so that it is still loaded."""
        loaded.leases += 1
        loaded.last_use = time.monotonic()
        try:
            yield
        finally:
            loaded.leases -= 1
            if loaded.is_leaving and not loaded.leases:
                self._close(loaded)

    def models(self) -> Sequence[ModelCard]:
        loaded = {each.identity: each.engine.facts for each in [self._champion, *self._beside.loaded] if each}
        named = servable_names(self.model, self.entries, allow_unpromoted=self.settings.allow_unpromoted)
        canary = self._canary.facts(self._champion)
        return [
            ModelCard(
                name,
                entry.version,
                _seconds(entry.when),
                loaded.get(identity_of(entry)),
                canary if name == self.model else None,
            )
            for name, entry in named
        ]

    @property
    def readiness(self) -> Readiness:
        champion = self._champion
        problems = [problem for problem in (self.ledger_problem, self._version_problem) if problem]
        if champion is None:
            return Readiness(False, None, tuple(problems) or (self._why_not_loaded(),))
        if not champion.engine.is_alive:
            problems.append(f"the engine of {champion.name} is restarted")
        if problem := self._canary.problem(champion):
            problems.append(problem)
        return Readiness(champion.engine.is_alive, champion.entry.version, tuple(problems))

    def leave(self, loaded: Loaded) -> None:
        """Ends a version after its requests under way."""
        loaded.is_leaving = True
        if not loaded.leases:
            self._close(loaded)

    async def close(self) -> None:
        """Ends all engines."""
        for loaded in [*([self._champion] if self._champion else []), *self._beside.pop_all()]:
            self._close(loaded)
        self._champion = None
        await asyncio.gather(*self._closings)

    def _why_not_loaded(self) -> str:
        if champion_of(self.entries) is None:
            return f"no version of {self.model} was promoted yet"
        return self._version_problem or "the version is loaded now"

    def _kept(self) -> Iterator[Entry]:
        """What must be loaded beside the champion: the canary, and with `serve.shadow` the challenger."""
        serving = self._champion.identity if self._champion else None
        canary = self._canary.canary.entry if self._canary.canary else None
        for entry in (canary, self.challenger if self.settings.shadow.share else None):
            if entry is not None and identity_of(entry) != serving:
                yield entry

    def _leave_removed(self) -> None:
        """Ends versions that requests may no longer name."""
        names = servable_names(self.model, self.entries, allow_unpromoted=self.settings.allow_unpromoted)
        servable = {identity_of(entry) for _, entry in names}
        for loaded in self._beside.loaded:
            if loaded.identity not in servable and not self._beside.is_kept(loaded.identity):
                self._beside.remove(loaded)

    async def _load(self, entry: Entry) -> Loaded:
        name = version_name(self.model, entry.version)
        return await load_and_probe(self._factory, entry, name, self.settings.limits.load_seconds)

    def _close(self, loaded: Loaded) -> None:
        task = asyncio.ensure_future(close(loaded))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)


def _seconds(when: str) -> int:
    try:
        return int(datetime.fromisoformat(when).timestamp())
    except (ValueError, OverflowError):
        return 0
