"""Versions that are loaded beside the champion, because requests name them: few, each loaded once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

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
        most: the number of versions, with those that are being loaded.
    """

    def __init__(self, load: Callable[[Entry], Awaitable[Loaded]], leave: Callable[[Loaded], None], most: int) -> None:
        self._load_version, self._leave, self._most = load, leave, most
        self._loaded: dict[Identity, Loaded] = {}
        self._loads: dict[Identity, asyncio.Task[None]] = {}
        self._refusals: dict[Identity, tuple[float, str]] = {}
        self._is_closed = False

    @property
    def loaded(self) -> list[Loaded]:
        return [*self._loaded.values()]

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
            logger.warning(f"serve: {error}")
            self._refusals[key] = time.monotonic() + REFUSAL_SECONDS, str(error)
        finally:
            del self._loads[key]

    def _refusal(self, key: Identity) -> str | None:
        """Why the version was refused a short time ago; None: it was not."""
        until, reason = self._refusals.get(key, (0.0, None))
        return reason if time.monotonic() < until else None

    def _make_room(self) -> None:
        """Ends the version that was used least recently, if there is no room for another one.

        Raises:
            ApiError: all are in use.
        """
        if len(self._loaded) + len(self._loads) < self._most:
            return
        idle = [loaded for loaded in self._loaded.values() if not loaded.leases]
        if not idle:
            message = f"{self._most} other versions are in use (`serve.loaded_versions`)."
            raise ApiError(503, "versions_busy", message, "model", retry_after=5)
        self.remove(min(idle, key=lambda loaded: loaded.last_use))
