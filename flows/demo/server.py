"""`strop serve` in a process of its own, for a demo in the working directory.

with serving(log) as server:
    server.wait_for(1)
    with server.client() as (name, post):
        post("/predict", {"family": "topic", "fields": {"text": "..."}})
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

from flows.demo.client import Post, open_client
from tasks import paths
from tasks.errors import StropError, one_line
from tasks.runtime.logs.setup import FILE, FORMAT, LEVEL
from tasks.serve.own_code import own_environment

logger = logging.getLogger(__name__)

SERVE = "from tasks.runtime.parent_watchdog import end_with_parent as e; e(); from flows.cli.main import main; main()"
"""The command `strop`, which ends if this process is killed."""
START_SECONDS = 120.0
"""For the first line of the log: the process imports its libraries."""
LOAD_SECONDS = 600.0
END_SECONDS = 90.0
"""Longer than `serve.limits.drain_seconds`."""
_ADDRESS = re.compile(r"serve: (http://127\.0\.0\.1:\d+)/v1")


class Server:
    """Args: log: the file of its log; lines of `serve` are also in the log of this process."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log
        self._listens = threading.Event()
        self.address = ""
        assert process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), name="log of serve", daemon=True)
        self._reader.start()

    def wait_for_address(self) -> None:
        """Raises StropError: it ended."""
        last = time.monotonic() + START_SECONDS
        while not self._listens.wait(0.1):
            self._require_alive(last)

    def wait_for(self, version: int) -> None:
        """Waits until a version serves.

        Raises:
            StropError: the server ended, or could not load it.
        """
        last = time.monotonic() + LOAD_SECONDS
        while self._version() != version:
            self._require_alive(last)
            time.sleep(0.2)

    def client(self) -> AbstractContextManager[tuple[str, Post]]:
        """With the key of the project."""
        return open_client(f"{self.address}/v1", paths.SERVE_KEY.read_text("utf-8").strip())

    def end(self) -> None:
        """Answers under way are completed."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)

    def _version(self) -> int | None:
        """Which serves; None: none yet."""
        import httpx

        try:
            response = httpx.get(f"{self.address}/ready", timeout=10, trust_env=False)
        except httpx.HTTPError:
            return None
        return response.json().get("version") if response.status_code == 200 else None

    def _require_alive(self, last: float) -> None:
        if (code := self._process.poll()) is not None:
            self._reader.join(5)
            raise StropError(f"strop serve ended with exit code {code}: {self._last_line()}", fix=f"See {self._log}")
        if time.monotonic() > last:
            raise StropError(f"strop serve is not ready: {self._last_line()}", fix=f"See {self._log}")

    def _last_line(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return one_line(lines[-1]) if lines else "it logged nothing"

    def _read(self, stream: IO[str]) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            for line in stream:
                file.write(line)
                file.flush()
                if line.startswith("serve: "):
                    logger.info(line.strip())
                if not self._listens.is_set() and (found := _ADDRESS.search(line)):
                    self.address = found[1]
                    self._listens.set()


@contextmanager
def serving(log: Path) -> Iterator[Server]:
    """The server of the project in the working directory, on a free port.

    Raises:
        StropError: it does not start.
    """
    command = [sys.executable, "-P", "-c", SERVE, "serve", "--port", "0"]
    environment = own_environment() | {FORMAT: "text", LEVEL: "info", FILE: "", "PYTHONIOENCODING": "utf-8"}
    # a session of its own: Ctrl-C reaches this process alone, which ends the server after its requests
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        command, env=environment, text=True, encoding="utf-8", errors="replace", start_new_session=True, **options
    )
    server = Server(process, log)
    try:
        server.wait_for_address()
        yield server
    finally:
        server.end()
