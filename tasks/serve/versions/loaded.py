"""A loaded version, and how one is loaded: by a factory of engines, and only if it then answers a request."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

from tasks.errors import one_line
from tasks.model_store.ledger_entries import Entry
from tasks.serve.app.interfaces import Route
from tasks.serve.engine.request import (
    EngineBusy,
    EngineFailed,
    EngineLost,
    Finished,
    OnlineEngine,
    Request,
    RequestRejected,
    Sampling,
    TextPrompt,
)

logger = logging.getLogger(__name__)

PROBE = "Hello 你好"
PROBE_SECONDS = 60.0


class VersionRefused(Exception):
    """A version cannot be loaded, or must not: its base changed, a signature is missing, its engine does not answer."""


class EngineFactory(Protocol):
    async def load(self, entry: Entry) -> OnlineEngine:
        """Loads a version, beside others that are loaded. If it is cancelled, it frees what it began.

        Raises:
            VersionRefused: it cannot.
        """
        ...


@dataclass(eq=False)
class Loaded:
    entry: Entry
    name: str
    engine: OnlineEngine
    leases: int = 0
    """Requests under way."""
    last_use: float = field(default_factory=time.monotonic)
    is_leaving: bool = False
    """It gets no new requests, and is closed after the last one."""

    @property
    def identity(self) -> tuple[int, str, str]:
        return identity_of(self.entry)

    def route(self, arm: str = "", arm_unit: str = "", fallback: Route | None = None) -> Route:
        return Route(self.name, self.entry.version, self.entry.weights_digest, self.engine, arm, arm_unit, fallback)


def identity_of(entry: Entry) -> tuple[int, str, str]:
    """What a loaded version is known by; never its name alone."""
    return entry.version, entry.weights_digest, entry.receipt


async def load_and_probe(factory: EngineFactory, entry: Entry, name: str, seconds: float) -> Loaded:
    """A loaded version that has answered one request.

    Args:
        seconds: the time limit for loading.

    Raises:
        VersionRefused: it cannot be loaded in this time, or does not answer.
    """
    logger.info(f"serve: loads {name}")
    try:
        async with asyncio.timeout(seconds):
            engine = await factory.load(entry)
    except TimeoutError as error:
        raise VersionRefused(f"{name} was not loaded within {seconds:g} seconds") from error
    except VersionRefused:
        raise
    except Exception as error:  # of the engine's libraries: the version in service goes on
        logger.exception(f"serve: {name} could not be loaded")
        raise VersionRefused(f"{name} could not be loaded ({type(error).__name__}; the log has more)") from error
    loaded = Loaded(entry, name, engine)
    try:
        await probe(engine, name)
    except BaseException:
        await close(loaded)
        raise
    return loaded


async def probe(engine: OnlineEngine, name: str) -> None:
    """Sends one request. A model with a head may refuse a plain text: that is an answer, too.

    Raises:
        VersionRefused: there is no answer.
    """
    is_finished = False
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            async for event in engine.answer(Request("probe", TextPrompt(PROBE), Sampling(max_tokens=1))):
                is_finished = is_finished or isinstance(event, Finished)
    except RequestRejected as error:
        if engine.facts.labels is None:
            raise VersionRefused(f"{name} refuses a plain request: {one_line(error)}") from error
        is_finished = True
    except (EngineBusy, EngineLost, EngineFailed, TimeoutError) as error:
        reason = one_line(error) or type(error).__name__
        raise VersionRefused(f"{name} does not answer a first request: {reason}") from error
    if not is_finished:
        raise VersionRefused(f"{name} does not complete a first request")


async def close(loaded: Loaded) -> None:
    try:
        await loaded.engine.close()
    except Exception:
        logger.exception(f"serve: the engine of {loaded.name} did not close")
    else:
        logger.info(f"serve: unloaded {loaded.name}")
