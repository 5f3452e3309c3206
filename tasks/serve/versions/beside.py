"""Versions that are loaded beside the champion: those that requests name, which are few, and those that must stay loaded, such as
a canary. Each is loaded once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from tasks.model_store.ledger_entries import Entry
from tasks.serve.errors import ApiError
from tasks.serve.versions.loaded import Loaded, VersionRefused, identity_of

logger = logging.getLogger(__name__)

REFUSAL_SECONDS = 30.0
"""For which a refusal is repeated without another attempt to load the version."""

Identity = tuple[int, str, str]


class Beside:
    """
    Args:
        leave: ends a version after its requests under way.
        most: the number of versions that requests name, with those that are being loaded.
    """

    def __init__(self, load: Callable[[Entry], Awaitable[Loaded]], leave: Callable[[Loaded], None], most: int) -> None:
        self._load_version, self._leave, self._most = load, leave, most
        self._loaded: dict[Identity, Loaded] = {}
        self._loads: dict[Identity, asyncio.Task[None]] = {}
        self._refusals: dict[Identity, tuple[float, str]] = {}
        self._kept: dict[Identity, Entry] = {}
        self._is_closed = False

    @property
    def loaded(self) -> list[Loaded]:
        return [*self._loaded.values()]

    def find(self, key: Identity) -> Loaded | None:
        return self._loaded.get(key)

    def is_kept(self, key: Identity) -> bool:
        return key in self._kept

    def keep(self, entries: Iterable[Entry]) -> None:
        """Has these versions loaded until the next call: not counted in `most`, never unloaded for another, and tried again where
        they are refused. Those of the call before end after their requests under way."""
        former, self._kept = self._kept, {identity_of(entry): entry for entry in entries}
        for key in former.keys() - self._kept.keys():
            if task := self._loads.get(key):
                task.cancel()
            if loaded := self._loaded.get(key):
                self.remove(loaded)
        for key in self._kept:
            self._load_kept(key)

    async def obtain(self, entry: Entry) -> Loaded:
        """The version; loaded if necessary, once for all requests that wait for it, and also if they are cancelled.

        Raises:
            ApiError: it cannot be loaded, or all others are in use.
        """
        key = identity_of(entry)
        while key not in self._loaded:
            if reason := self._refusal(key):
                until = self._refusals[key][0]
                raise ApiError(503, "version_refused", f"{reason}.", "model", until - time.monotonic())
            if self._is_closed:
                raise ApiError(503, "draining", "The server is shutting down.", retry_after=5)
            if key not in self._loads:
                self._make_room()
                self._loads[key] = asyncio.ensure_future(self._load(entry))
            await asyncio.wait({self._loads[key]})
        return self._loaded[key]

    async def take(self, entry: Entry) -> Loaded | None:
        """Removes the version, for another use; None if it is not loaded. Waits for its load.

        Raises:
            VersionRefused: it cannot be loaded.
        """
        key = identity_of(entry)
        if task := self._loads.get(key):
            await asyncio.wait({task})
            if reason := self._refusal(key):
                raise VersionRefused(reason)
        return self._loaded.pop(key, None)

    def remove(self, loaded: Loaded) -> None:
        """Ends a version after its requests under way."""
        del self._loaded[loaded.identity]
        self._leave(loaded)

    def pop_all(self) -> list[Loaded]:
        """All versions, which are removed; loads are cancelled, and none begins any more."""
        self._is_closed = True
        for task in self._loads.values():
            task.cancel()
        loaded = self.loaded
        self._loaded.clear()
        return loaded

    async def _load(self, entry: Entry) -> None:
        key = identity_of(entry)
        try:
            self._loaded[key] = await self._load_version(entry)
        except VersionRefused as error:
            if self._refusals.get(key, (0.0, ""))[1] != str(error):
                logger.warning(f"serve: {error}")
            self._refusals[key] = time.monotonic() + REFUSAL_SECONDS, str(error)
            asyncio.get_running_loop().call_later(REFUSAL_SECONDS + 0.1, self._load_kept, key)
        finally:
            del self._loads[key]

    def _load_kept(self, key: Identity) -> None:
        """Begins to load a version that must stay loaded, if it is not, and was not refused a short time ago."""
        is_absent = key in self._kept and key not in self._loaded and key not in self._loads
        if is_absent and not self._is_closed and not self._refusal(key):
            self._loads[key] = asyncio.ensure_future(self._load(self._kept[key]))

    def _refusal(self, key: Identity) -> str | None:
        """Why the version was refused a short time ago; None: it was not."""
        until, reason = self._refusals.get(key, (0.0, None))
        return reason if time.monotonic() < until else None

    def _make_room(self) -> None:
        """Ends the version that was used least recently, if there is no room for another one.

        Raises:
            ApiError: all are in use.
        """
        counted = (self._loaded.keys() | self._loads.keys()) - self._kept.keys()
        if len(counted) < self._most:
            return
        idle = [loaded for key, loaded in self._loaded.items() if key in counted and not loaded.leases]
        if not idle:
            message = f"{self._most} other versions are in use (`serve.loaded_versions`)."
            raise ApiError(503, "versions_busy", message, "model", retry_after=5)
        self.remove(min(idle, key=lambda loaded: loaded.last_use))
