"""The gateway's side of the recorder: never waits for a disk, and never delays an answer.

    client = RecorderClient(Start(str(paths.SPOOL), settings.record, config.curate.pii, config.retention.served_days))
    await client.open()
    client.record(response)                                # at once; dropped and counted where the recorder is behind
    stored = await client.feedback(document, "my-app")     # FeedbackRefused, RecorderLost
    await client.close()

The recorder is started again if it ends; meanwhile records are dropped and counted, and feedback is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import subprocess
from collections.abc import Mapping
from typing import Any

from tasks.feedback.check import FeedbackRefused
from tasks.feedback.records import ServedResponse, Stored
from tasks.serve.own_code import own_command, own_environment
from tasks.serve.record.start import Start

logger = logging.getLogger(__name__)

RESTART_SECONDS = (0.1, 1.0, 5.0, 30.0)
"""The wait before each start after the recorder ended; the last one is repeated."""
HEALTHY_SECONDS = 60.0
"""After this time a recorder counts as healthy: the waits begin anew."""
REPLY_SECONDS = 30.0


class RecorderLost(Exception):
    """The recorder does not run at the moment: the feedback is not stored."""


class RecorderClient:
    def __init__(self, start: Start) -> None:
        self.start = start
        self.dropped = 0
        """Records that were not written, because the recorder was behind or did not run."""
        self.restarts = 0
        self._writer: asyncio.StreamWriter | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._tickets: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._supervisor: asyncio.Task[None] | None = None
        self._lost = 0
        self._sent = self._confirmed = self._lost_by_process = 0
        """Of the present process: responses that were sent, that it took, and that it could not write."""

    async def open(self) -> None:
        """Starts the process; records may be sent at once."""
        reader = await self._begin()
        self._supervisor = asyncio.create_task(self._supervise(reader))

    def record(self, response: ServedResponse) -> None:
        """Sends a response to the recorder. Never waits, never raises."""
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size() > self.start.settings.queue_bytes:
            self.dropped += 1
            return
        writer.write(_line({"response": response.as_json()}))
        self._sent += 1

    async def feedback(
        self, document: Mapping[str, Any], key: str, is_admin: bool = False, idempotency_key: str = ""
    ) -> Stored:
        """Stores feedback, once; it is on the disk when this returns.

        Args:
            document: the body of the request: a JSON object, otherwise unchecked.
            key: the name of the API key.
            is_admin: whether the key may judge responses to other keys.

        Raises:
            FeedbackRefused: 404, 422 or 503; with a message for the client.
            RecorderLost: the recorder does not run.
        """
        message = {"feedback": document, "key": key, "is_admin": is_admin, "idempotency_key": idempotency_key}
        reply = await self._request(message)
        if refused := reply.get("refused"):
            raise FeedbackRefused(**refused)
        return Stored(reply["id"], reply["is_new"])

    async def flush(self) -> int:
        """Waits until everything sent before is on the disk; returns the number of responses that the process has written.

        Raises:
            RecorderLost: the recorder does not run.
        """
        reply = await self._request({"flush": True})
        return int(reply["written"])

    async def close(self) -> None:
        """Ends the process after it has written everything."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(self._writer.drain(), REPLY_SECONDS)
            self._writer.close()
            self._writer = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, REPLY_SECONDS)

    @property
    def counts(self) -> dict[str, int]:
        """For metrics. After the recorder was killed, `dropped` has all records that it had not confirmed; some may be written."""
        return {"dropped": self.dropped, "lost": self._lost, "restarts": self.restarts}

    async def _request(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if self._writer is None:
            raise RecorderLost
        self._number += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._tickets[self._number] = future
        number = self._number
        self._writer.write(_line({**message, "ticket": number}))
        try:
            return await asyncio.wait_for(future, REPLY_SECONDS)
        except TimeoutError as error:
            raise RecorderLost from error
        finally:
            self._tickets.pop(number, None)

    async def _begin(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        with theirs:
            command = own_command("tasks.serve.record.process", str(theirs.fileno()))
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=own_environment()
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._writer.write(_line(self.start.as_json()))
        return reader

    async def _supervise(self, reader: asyncio.StreamReader) -> None:
        """Reads replies; starts the process again when it ends."""
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    self._take(json.loads(line))
            self._end()
            failures = 1 if loop.time() - began > HEALTHY_SECONDS else failures + 1
            reader = await self._restarted(failures)

    async def _restarted(self, failures: int) -> asyncio.StreamReader:
        while True:
            wait = RESTART_SECONDS[min(failures, len(RESTART_SECONDS)) - 1]
            logger.warning(f"serve: the recorder ended; it is started again in {wait:g} s")
            await asyncio.sleep(wait)
            self.restarts += 1
            try:
                return await self._begin()
            except OSError as error:  # no memory or descriptors for a process
                logger.warning(f"serve: the recorder cannot be started: {error}")
                failures += 1

    def _take(self, reply: dict[str, Any]) -> None:
        self._lost += reply["lost"] - self._lost_by_process
        self._lost_by_process, self._confirmed = reply["lost"], reply["written"] + reply["lost"]
        future = self._tickets.pop(reply["ticket"], None)
        if future is not None and not future.done():
            future.set_result(reply)

    def _end(self) -> None:
        """Removes the process, and lets those who wait for it know."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait()
        self.dropped += max(0, self._sent - self._confirmed)
        self._sent = self._confirmed = self._lost_by_process = 0
        for future in self._tickets.values():
            if not future.done():
                future.set_exception(RecorderLost())
        self._tickets.clear()


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
