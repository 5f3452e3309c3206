"""The state that the routes share."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from tasks.errors import one_line
from tasks.runtime.loopback import LOOPBACK
from tasks.serve.access.admission import Admission
from tasks.serve.access.keys import KeyRing
from tasks.serve.app.interfaces import Feedback, Recorder, RecordsNothing, Route, Router
from tasks.serve.engine.request import RequestRejected
from tasks.serve.errors import ApiError
from tasks.serve.metrics import ServeMetrics
from tasks.serve.settings import ServeSettings

logger = logging.getLogger(__name__)

DRAINING = ApiError(503, "draining", "The server is shutting down: send the request to another one.", retry_after=5)


@dataclass
class Gateway:
    settings: ServeSettings
    router: Router
    keys: KeyRing
    recorder: Recorder = field(default_factory=RecordsNothing)
    feedback: Feedback | None = None
    """None: feedback is not accepted."""
    metrics: ServeMetrics = field(default_factory=ServeMetrics)
    is_draining: bool = False
    open_requests: int = 0
    """Requests to routes that need a key, until their responses are complete."""

    failed_routes: set[str] = field(default_factory=set)
    """Canaries in whose place the champion has answered."""

    def __post_init__(self) -> None:
        limits = self.settings.limits
        self.admission = Admission(limits.concurrency, limits.queue)
        self.host_names = {name.lower() for name in (*LOOPBACK, self.settings.host, *self.settings.host_names)}
        self.metrics.active.set_function(lambda: self.admission.active)
        self.metrics.waiting.set_function(lambda: self.admission.waiting)
        self.metrics.version.set_function(lambda: self.router.readiness.version or 0)

    def note_fallback(self, route: Route, error: Exception) -> None:
        """The champion answers in the place of a canary that failed: counted, and logged once. Its refusal of a request is no
        failure: the champion may know a task that it does not."""
        if isinstance(error, RequestRejected):
            return
        self.metrics.fallbacks.inc()
        if route.name not in self.failed_routes:
            self.failed_routes.add(route.name)
            reason = one_line(error) or type(error).__name__
            logger.warning(f"serve: the canary {route.name} fails ({reason}); the champion answers in its place")

    async def drain(self) -> None:
        """Refuses new requests, and waits for those under way, for at most `drain_seconds`."""
        self.is_draining = True
        end = asyncio.get_running_loop().time() + self.settings.limits.drain_seconds
        while self.open_requests and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
