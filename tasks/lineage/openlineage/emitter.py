"""Sends events to a file or a receiver, in a thread of its own, so that a run never waits for it and never fails by it.

    with Emitter("http://marquez:5000") as emitter:
        emitter.send(lambda: event(...))

After the first failure one warning is logged, and nothing more is sent. The end waits for at most CLOSE_SECONDS.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from tasks.runtime.loopback import is_loopback
from tasks.runtime.redaction.text import redact, without_credentials

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 3.0
CLOSE_SECONDS = 5.0
WAITING = 1000
"""Events that wait at most; a run has some twenty."""
PATH = "/api/v1/lineage"
"""Of OpenLineage's HTTP interface; an address with a path of its own is used as it is."""
KEY = "OPENLINEAGE_API_KEY"


class Emitter:
    """Sends events in the order in which they were given.

    Args:
        target: a URL or the path of a file.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.has_failed = False
        self._events: queue.Queue[Callable[[], str] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, daemon=True, name="openlineage")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._fail(f"no answer within {CLOSE_SECONDS:.0f} s")

    def send(self, make: Callable[[], str]) -> None:
        """Sends the event that the function returns; it is called in the thread."""
        if not self.has_failed:
            self._put(make)

    def _put(self, make: Callable[[], str] | None) -> None:
        try:
            self._events.put_nowait(make)
        except queue.Full:
            self._fail("it is too slow")

    def _work(self) -> None:
        while (make := self._events.get()) is not None:
            if self.has_failed:
                continue
            try:
                self._deliver(make())
            except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
                self._fail(f"{type(error).__name__}: {error}")

    def _deliver(self, event: str) -> None:
        if self.target.startswith(("http://", "https://")):
            post(self.target, event)
            return
        path = Path(self.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(event + "\n")

    def _fail(self, reason: str) -> None:
        if self.has_failed:
            return
        self.has_failed = True
        where, line = without_credentials(self.target), " ".join(redact(without_credentials(reason)).split())[:200]
        logger.warning(f"lineage: {where} takes no OpenLineage events ({line}); the run goes on without them")


def post(url: str, event: str) -> None:
    """Raises an error of `requests` where the receiver does not accept the event."""
    import requests

    headers: dict[str, Any] = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"
    with requests.Session() as session:
        if is_loopback(url):
            session.trust_env = False  # a proxy cannot reach this machine's own servers
        response = session.post(endpoint(url), data=event.encode("utf-8"), headers=headers, timeout=TIMEOUT_SECONDS)
    response.raise_for_status()


def endpoint(url: str) -> str:
    """The address of the interface: that of a receiver without a path gets PATH."""
    parts = urlsplit(url)
    return url if parts.path.strip("/") else urlunsplit((parts.scheme, parts.netloc, PATH, parts.query, ""))
