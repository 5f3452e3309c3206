"""A server of one model, started by a command, until it answers; ended with all its processes."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ConfigError, SourceError, one_line
from tasks.inference import supervise
from tasks.inference.endpoint import not_set
from tasks.inference.port_holder import older_holder
from tasks.inference.served import served_models
from tasks.inference.settings import ServerSettings
from tasks.runtime.redaction.settings import with_values
from tasks.runtime.run_origin import written_path

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
LINE_EVERY_SECONDS = 30.0
TAIL_BYTES = 2000
OWNER = "evaluate.engine"


@dataclass(frozen=True)
class ServerProcess:
    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def fault(self, within_seconds: float = 0.0) -> str | None:
        """Why it has ended, or ends within some seconds, with the end of its log; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(within_seconds)
        code = self.process.returncode
        return None if code is None else f"the server ended with exit code {code}: {self.tail()}"

    def tail(self) -> str:
        """The last lines of its output, in one line."""
        with suppress(OSError):
            text = self.log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
            return one_line(" | ".join([line.strip() for line in text.splitlines() if line.strip()][-4:]), 500)
        return ""


@contextmanager
def started_server(
    settings: ServerSettings,
    folder: Path,
    dtype: str,
    log: Path,
    owner: str = OWNER,
    environment: Mapping[str, str] | None = None,
    is_needed: Callable[[], bool] = lambda: True,
) -> Iterator[ServerProcess]:
    """The server of the model in `folder`, as soon as it answers.

    Args:
        owner: the settings of the server, for messages.
        environment: further variables of its environment.
        is_needed: if it returns False while the server starts, the server is ended.

    Raises:
        ConfigError: the command cannot be run, or has ended.
        SourceError: it does not answer within `start_seconds`, or is not needed any more.
    """
    assert settings.command is not None
    port = _free_port()
    values = {"{model}": str(folder.resolve()), "{port}": str(port), "{dtype}": dtype}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, supervise.__file__, str(os.getpid()), *_filled_in(_placed(settings.command), values)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {**(environment or {})},
            start_new_session=True,
        )  # fmt: skip
    server = ServerProcess(process, log, port)
    try:
        _wait(server, settings, owner, is_needed)
        yield server
    finally:
        _end(process)


def _placed(command: Sequence[str]) -> list[str]:
    """The command, with a program that is relative to the project."""
    program = command[0]
    return [str(written_path(program).absolute()) if os.sep in program else program, *command[1:]]


def _filled_in(command: Sequence[str], values: dict[str, str]) -> list[str]:
    arguments = []
    for argument in command:
        for name, value in values.items():
            argument = argument.replace(name, value)
        arguments.append(str(with_values(argument, not_set)))
    return arguments


def _wait(server: ServerProcess, settings: ServerSettings, owner: str, is_needed: Callable[[], bool]) -> None:
    started = last_line = time.monotonic()
    stage, where = owner.partition(".")[0], f"{owner}.command"
    logger.info(
        f"{stage}: starts {settings.command[0] if settings.command else ''}; up to {settings.start_seconds:g} s"
    )
    while served_models(server.base_url, settings.api_key_env) is None:
        if fault := server.fault():
            raise ConfigError(fault, where=where, fix="Correct the command, or its environment")
        if not is_needed():
            raise SourceError("is not needed any more", where=where)
        now = time.monotonic()
        if now - started > settings.start_seconds:
            what = f"the server does not answer after {settings.start_seconds:g} s: {server.tail()}"
            raise SourceError(what, where=where, fix=f"Raise {owner}.start_seconds, or correct the command")
        if now - last_line > LINE_EVERY_SECONDS:
            last_line = now
            logger.info(f"{stage}: waits for the server ({now - started:.0f} s): {server.tail()[-150:]}")
        time.sleep(POLL_SECONDS)
    if holder := older_holder(server.port, server.process.pid):
        what = f"port {server.port}, which the server was to have, is held by {holder}, which answered in its place"
        raise SourceError(what, where=where, fix="Run again: it gets another port")
    if fault := server.fault():
        raise ConfigError(fault, where=where, fix="Correct the command, or its environment")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the supervisor, which ends its group; the group itself if the supervisor does not."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(supervise.GRACE_SECONDS + 5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
