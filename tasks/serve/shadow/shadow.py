"""Has the challenger answer a share of the champion's requests, after the champion's answer was sent. No answer waits for it:
requests are in a bounded queue, and are dropped and counted where the server is busy.

shadow = Shadow(settings, versions, recorder, metrics, load=lambda: 0.1)
Gateway(settings, versions, keys, recorder=shadow)
await shadow.run()                                   # never returns
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from tasks.feedback.records import new_response_id
from tasks.serve.app.interfaces import Recorder, Route, ServedAnswer, ServedRequest
from tasks.serve.engine.request import (
    EngineBusy,
    EngineFailed,
    EngineLost,
    Event,
    Finished,
    Request,
    RequestRejected,
    Started,
)
from tasks.serve.metrics import ServeMetrics
from tasks.serve.settings import ServeSettings
from tasks.serve.shadow.agreement import agreement_of
from tasks.serve.versions.versions import Versions

logger = logging.getLogger(__name__)


LOOK_SECONDS = 0.05
"""Between two looks at the load while the challenger answers."""


class Dropped(Exception):
    """The challenger does not answer a request; the argument is the reason, for the metrics."""


class Shadow:
    """The recorder of the gateway: it passes on to the next one what it sees.

    Args:
        load: the part of the server's places that is in use.
    """

    def __init__(
        self,
        settings: ServeSettings,
        versions: Versions,
        recorder: Recorder,
        metrics: ServeMetrics,
        load: Callable[[], float],
    ) -> None:
        self._settings, self._versions, self._recorder, self._metrics = settings, versions, recorder, metrics
        self._load = load
        self._drawn: dict[str, ServedRequest] = {}
        self._queue: asyncio.Queue[tuple[ServedRequest, ServedAnswer]] = asyncio.Queue(settings.shadow.queue)

    def on_request(self, served: ServedRequest) -> None:
        self._recorder.on_request(served)
        if is_drawn(served.request.id, self._settings.shadow.share):
            self._drawn[served.request.id] = served

    def on_answer(self, answer: ServedAnswer) -> None:
        """After the answer was sent."""
        self._recorder.on_answer(answer)
        served = self._drawn.pop(answer.id, None)
        if served is None or answer.error or not self._is_of_champion(answer.route):
            return
        if self._is_busy():
            self._drop("load")
        elif self._queue.full():
            self._drop("queue")
        else:
            self._queue.put_nowait((served, answer))

    async def run(self) -> None:
        """Never returns. No failure of the challenger ends it."""
        while True:
            served, sent = await self._queue.get()
            try:
                async with asyncio.timeout(self._settings.limits.request_seconds):
                    await self._answer(served, sent)
            except Dropped as reason:
                self._drop(str(reason))
            except (RequestRejected, EngineBusy, EngineLost, EngineFailed, TimeoutError):
                self._drop("failed")
            except Exception:
                logger.exception("serve: the challenger could not answer")
                self._drop("failed")

    async def _answer(self, served: ServedRequest, sent: ServedAnswer) -> None:
        entry = self._versions.challenger
        if entry is None:
            raise Dropped("not_loaded")
        with self._versions.lease_loaded(entry) as route:
            if route is None:
                raise Dropped("not_loaded")
            request = replace(served.request, id=new_response_id())
            shadow = ServedRequest(
                request, route, served.path, served.unit, time.time(), served.metadata, served.request.id
            )
            answer = await self._while_idle(self._collect(route, request))
        self._recorder.on_request(shadow)
        self._recorder.on_answer(answer)
        await self._compare(served, sent, answer)

    async def _while_idle(self, work: Coroutine[Any, Any, ServedAnswer]) -> ServedAnswer:
        """Its result. It is cancelled when the server becomes busy."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_SECONDS)
                if not task.done() and self._is_busy():
                    raise Dropped("load")
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _collect(self, route: Route, request: Request) -> ServedAnswer:
        """The whole answer."""
        began, started, first_seconds = time.monotonic(), Started(0), None
        finished: list[Finished] = []
        async with aclosing(cast(AsyncGenerator[Event, None], route.engine.answer(request))) as events:
            async for event in events:
                if isinstance(event, Started):
                    started, first_seconds = event, time.monotonic() - began
                elif isinstance(event, Finished):
                    finished.append(event)
        if len(finished) < request.choices:
            raise EngineFailed("the engine ended its answer too early")
        answers = tuple(sorted(finished, key=lambda answer: answer.choice))
        prompt = started.prompt_tokens, started.template, started.is_shortened
        return ServedAnswer(request.id, route, answers, *prompt, time.monotonic() - began, first_seconds)

    async def _compare(self, served: ServedRequest, sent: ServedAnswer, answer: ServedAnswer) -> None:
        """Counts the agreement of greedy answers: sampled ones would differ between two answers of one version, too."""
        version = str(answer.route.version)
        self._metrics.shadow_answers.labels(version).inc()
        if served.request.sampling.temperature:
            return
        agreement = await asyncio.to_thread(agreement_of, answer.answers[0], sent.answers[0])
        if agreement is not None:
            labels = version, str(sent.route.version)
            self._metrics.shadow_exact.labels(*labels).observe(agreement.is_exact)
            self._metrics.shadow_f1.labels(*labels).observe(agreement.token_f1)

    def _is_of_champion(self, route: Route) -> bool:
        return route.version == self._versions.readiness.version

    def _is_busy(self) -> bool:
        return self._load() > self._settings.shadow.load

    def _drop(self, reason: str) -> None:
        self._metrics.shadow_dropped.labels(reason).inc()


def is_drawn(response_id: str, share: float) -> bool:
    """Whether the challenger answers, too. By other digits of the id than `serve.record.text_share`: each is drawn by itself."""
    return int(response_id.removeprefix("resp_")[:8], 16) < share * 2**32
