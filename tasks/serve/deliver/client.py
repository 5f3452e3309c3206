"""The gateway's side of the delivery to MLflow: starts the process, and starts it again if it ends.

    async with DelivererClient(config.serve):       # nothing if `serve.deliver` or `serve.record` is off
        ...

The gateway sends it nothing: it reads the records that the recorder wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio.subprocess import PIPE, Process

from tasks.errors import ConfigError
from tasks.serve.own_code import own_command, own_environment
from tasks.serve.settings import ServeSettings

logger = logging.getLogger(__name__)

RESTART_SECONDS = (1.0, 5.0, 30.0, 300.0)
"""The wait before each start after the process ended; the last one is repeated."""
HEALTHY_SECONDS = 300.0
"""After this time the process counts as healthy: the waits begin anew."""
CLOSE_SECONDS = 15.0


class DelivererClient:
    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.restarts = 0
        self.process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> DelivererClient:
        await self.open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Raises ConfigError if `serve.review.slice` is no condition."""
        if not (self.settings.deliver.is_on and self.settings.record.is_on):
            return
        require_slice(self.settings.review.slice)
        self._supervisor = asyncio.ensure_future(self._supervise())

    async def close(self) -> None:
        """Ends the process after the portion that it is delivering; the rest is delivered after the next start."""
        if self._supervisor is None:
            return
        self._supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._supervisor
        if self.process is None or self.process.returncode is not None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), CLOSE_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _supervise(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began, how = loop.time(), "ended"
            try:
                command = own_command("tasks.serve.deliver.process")
                self.process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, env=own_environment())
                how = f"ended with code {await self.process.wait()}"
            except OSError as error:  # no memory or descriptors for a process
                how = f"cannot be started ({error})"
            failures = 1 if loop.time() - began > HEALTHY_SECONDS else failures + 1
            wait = RESTART_SECONDS[min(failures, len(RESTART_SECONDS)) - 1]
            logger.warning(f"serve: the delivery to MLflow {how}; it is started again in {wait:g} s")
            await asyncio.sleep(wait)
            self.restarts += 1


def require_slice(condition: str | None) -> None:
    """Raises ConfigError if it is no condition on an answer."""
    if condition is None:
        return
    from tasks.serve.deliver.worth_review import parse_slice

    try:
        parse_slice(condition)
    except ValueError as error:
        fix = "Its columns are in docs/settings.md"
        raise ConfigError(f"is no condition on an answer: {error}", where="serve.review.slice", fix=fix) from error
