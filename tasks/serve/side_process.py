"""A process beside the gateway: started with it, started again if it ends, and ended with it.

async with SideProcess("the controller", own_command("flows.canary_process")):     # in the gateway
    ...
ended = end_with_input(30.0)                                                       # in the process: set when it shall end

The gateway sends it nothing: closing its standard input ends it. Signals of a terminal do not, as the gateway drains first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from tasks.serve.own_code import own_environment

logger = logging.getLogger(__name__)

RESTART_SECONDS = (1.0, 5.0, 30.0, 300.0)
"""The wait before each start after the process ended; the last one is repeated."""
HEALTHY_SECONDS = 300.0
"""After this time the process counts as healthy: the waits begin anew."""
CLOSE_SECONDS = 15.0


class SideProcess:
    """
    Args:
        name: in messages, such as `the delivery to MLflow`.
        close_seconds: the time in which it must end, more than its own grace time; then it is killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        restart_seconds: Sequence[float] = RESTART_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self.name, self.command, self.restart_seconds, self.close_seconds = (
            name,
            command,
            restart_seconds,
            close_seconds,
        )
        self.restarts = 0
        self.process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SideProcess:
        await self.open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def open(self) -> None:
        self._supervisor = asyncio.ensure_future(self._supervise())

    async def close(self) -> None:
        """Ends the process after what it does at the moment."""
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
            await asyncio.wait_for(self.process.wait(), self.close_seconds)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _supervise(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began, how = loop.time(), "ended"
            try:
                self.process = await asyncio.create_subprocess_exec(*self.command, stdin=PIPE, env=own_environment())
                how = f"ended with code {await self.process.wait()}"
            except OSError as error:  # no memory or descriptors for a process
                how = f"cannot be started ({error})"
            failures = 1 if loop.time() - began > HEALTHY_SECONDS else failures + 1
            wait = self.restart_seconds[min(failures, len(self.restart_seconds)) - 1]
            logger.warning(f"serve: {self.name} {how}; it is started again in {wait:g} s")
            await asyncio.sleep(wait)
            self.restarts += 1


def end_with_input(grace_seconds: float) -> threading.Event:
    """Called in the process: an event that is set when the gateway ends, also by a kill.

    Args:
        grace_seconds: after the event; then the process ends wherever it is, such as at a server that does not answer.
    """
    from tasks.runtime.parent_watchdog import end_with_parent

    ended = threading.Event()

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        ended.set()
        threading.Event().wait(grace_seconds)
        os._exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=wait, daemon=True, name="input").start()
    end_with_parent(grace_seconds)
    return ended
