"""A loaded version in a process of its own (worker.py), as an OnlineEngine for an event loop. Imports no torch.

engine = await WorkerEngine.start(WorkerSpec(folder, base, "fp32", 64))
async for event in engine.answer(request): ...
await engine.close()

If the process ends, its requests end with EngineLost, and another one is started, after pauses that grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from tasks.serve.engine.messages import (
    HEADER,
    WorkerSpec,
    content_of,
    event_of,
    facts_of,
    frame,
    request_as_json,
)
from tasks.serve.engine.request import EngineBusy, EngineFacts, EngineLost, Event, Finished, Request
from tasks.serve.own_code import own_command, own_environment

logger = logging.getLogger(__name__)

COMMAND = own_command("tasks.serve.engine.worker")
QUEUE = 256
"""Requests under way in one worker; for more: EngineBusy."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a new process is started; doubled after each end, until one has run for RUNS_WELL."""
RUNS_WELL = 60.0
SILENCE_SECONDS = 120.0
"""A worker that computes sends a sign of life every few seconds; without any for so long it is ended."""
END_SECONDS = 5.0


class WorkerEngine:
    """Use `start`.

    Args:
        command: starts the worker, with a socket as its standard input.
        queue: most requests under way.
        grace_seconds: time for the requests under way when the engine is closed.
    """

    def __init__(
        self, spec: WorkerSpec, command: Sequence[str] = COMMAND, queue: int = QUEUE, grace_seconds: float = 30.0
    ) -> None:
        self.spec, self.command, self.queue, self.grace_seconds = spec, command, queue, grace_seconds
        self.pid = 0
        """Of the worker; 0: none runs."""
        self._facts: EngineFacts | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._under_way: dict[str, asyncio.Queue[Event | Exception]] = {}
        self._is_closing = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._supervisor: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._sent_at = self._received_at = 0.0

    @classmethod
    async def start(cls, spec: WorkerSpec, **options: Any) -> WorkerEngine:
        """Starts the worker, and waits until the version is loaded.

        Raises:
            EngineLost: it cannot be loaded; with the reason.
        """
        engine = cls(spec, **options)
        engine._supervisor = asyncio.create_task(engine._supervise(), name="engine")
        try:
            await asyncio.shield(engine._ready)
        except BaseException:
            engine._is_closing = True
            await engine._end()
            raise
        return engine

    @property
    def facts(self) -> EngineFacts:
        assert self._facts is not None
        return self._facts

    @property
    def is_alive(self) -> bool:
        return self._writer is not None and not self._is_closing

    async def answer(self, request: Request) -> AsyncIterator[Event]:
        """As OnlineEngine.answer. Raises RequestRejected, EngineBusy, EngineLost, EngineFailed."""
        if self._writer is None or self._is_closing:
            raise EngineLost("the engine is not running")
        if len(self._under_way) >= self.queue:
            raise EngineBusy
        events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        assert request.id not in self._under_way
        self._under_way[request.id] = events
        self._is_idle.clear()
        self._send({"add": request_as_json(request)})
        left = request.choices
        is_over = False
        try:
            while left:
                event = await events.get()
                if isinstance(event, Exception):
                    is_over = True
                    raise event
                left -= isinstance(event, Finished)
                is_over = not left
                yield event
        finally:
            self._under_way.pop(request.id, None)
            if not self._under_way:
                self._is_idle.set()
            if not is_over:
                self._send({"cancel": request.id})

    async def close(self) -> None:
        """Refuses new requests, waits for those under way, for `grace_seconds` at most, and ends the worker."""
        self._is_closing = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_idle.wait(), self.grace_seconds)
        self._send({"close": True})
        await self._end()

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._sent_at = time.monotonic()
            self._writer.write(frame(message))

    async def _supervise(self) -> None:
        """Runs one worker after another."""
        pause = FIRST_PAUSE
        while not self._is_closing:
            began = time.monotonic()
            try:
                reason = await self._run_worker()
            except Exception as error:  # such as no memory for a process  # noqa: BLE001
                reason = f"the engine could not be started ({error})"
            if self._is_closing:
                return
            if not self._ready.done():
                self._ready.set_exception(EngineLost(reason))
                return
            pause = FIRST_PAUSE if time.monotonic() - began > RUNS_WELL else pause
            logger.warning(f"serve: {reason}; it is started again in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_worker(self) -> str:
        """Starts a worker, and passes its events on until it ends. Returns why it ended."""
        ours, theirs = socket.socketpair()
        environment = {**own_environment(), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(frame(asdict(self.spec)))
        self._received_at = time.monotonic()
        watch = asyncio.create_task(self._end_if_silent())
        reason = "the engine's process ended"
        try:
            reason = await self._read(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            watch.cancel()
            self._writer, self.pid = None, 0
            self._lose(reason)
            writer.close()
            await self._wait_for_end()
        return reason

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        while True:
            (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
            message = content_of(await reader.readexactly(size))
            self._received_at = time.monotonic()
            if "refused" in message:
                return str(message["refused"])
            if "ready" in message:
                self._facts, self._writer, self.pid = facts_of(message["ready"]), writer, message["pid"]
                if not self._ready.done():
                    self._ready.set_result(None)
            for id, name, values in message.get("events", ()):
                if (events := self._under_way.get(id)) is not None:
                    events.put_nowait(event_of(name, values))

    async def _end_if_silent(self) -> None:
        """Ends a worker that has requests, and does not respond."""
        while True:
            await asyncio.sleep(min(SILENCE_SECONDS / 4, 5.0))
            waits_since = max(self._received_at, self._sent_at)
            if self._writer and self._under_way and time.monotonic() - waits_since > SILENCE_SECONDS:
                logger.warning(f"serve: the engine does not respond for {SILENCE_SECONDS:.0f} s: it is ended")
                self._kill()
                return

    def _lose(self, reason: str) -> None:
        for events in self._under_way.values():
            events.put_nowait(EngineLost(reason))

    async def _end(self) -> None:
        """Ends the worker, at once if it does not end by itself."""
        if self._supervisor is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._supervisor), END_SECONDS if self.pid else 0.0)
        self._kill()
        self._supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._supervisor
        self._writer = None
        self._lose("the engine was closed")

    async def _wait_for_end(self) -> None:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        self._kill()
        await self._process.wait()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
