"""Has a version answer a request: a place in the queue, the version, the events of its engine, and their record."""

from __future__ import annotations

import time
from asyncio import CancelledError, timeout
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from tasks.serve.app.gateway import Gateway
from tasks.serve.app.interfaces import Route, ServedAnswer, ServedRequest, Unit
from tasks.serve.app.sampling import default_tokens
from tasks.serve.engine.request import (
    ChatPrompt,
    Delta,
    EngineBusy,
    EngineFailed,
    EngineLost,
    Event,
    Finished,
    Request,
    RequestRejected,
    Sampling,
    Started,
    TaskPrompt,
    TextPrompt,
    TokenLogprob,
)
from tasks.serve.errors import ApiError

RESTART_SECONDS = 5.0
LOST = ApiError(503, "engine_lost", "The engine is restarted; send the request again.", retry_after=RESTART_SECONDS)
CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """A request for an answer, before a version is chosen for it."""

    path: str
    model: str
    prompt: ChatPrompt | TextPrompt | TaskPrompt
    sampling: Sampling
    unit: Unit
    choices: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Exchange(AsyncIterator[Event]):
    """The events of a request, as they arrive.

    Args:
        began: by the monotonic clock.
    """

    request: Request
    route: Route
    events: AsyncGenerator[Event, None]
    created: int
    began: float
    on_fallback: Callable[[Route, Exception], None]
    first_seconds: float | None = None
    started: Started = field(default_factory=lambda: Started(0))
    finished: dict[int, Finished] = field(default_factory=dict)
    logprobs: dict[int, list[TokenLogprob]] = field(default_factory=dict)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The first event is `Started`.

        Raises:
            EngineFailed: the events ended before every choice was finished.
        """
        try:
            event = await self._next()
        except StopAsyncIteration:
            if len(self.finished) < self.request.choices:
                raise EngineFailed("the engine ended its answer too early") from None
            raise
        if isinstance(event, Started):
            self.started, self.first_seconds = event, time.monotonic() - self.began
        elif isinstance(event, Delta):
            self.logprobs.setdefault(event.choice, []).extend(event.logprobs)
        else:
            self.finished[event.choice] = event
        return event

    async def _next(self) -> Event:
        """The next event; the champion's first one where a canary fails before its own."""
        try:
            return await anext(self.events)
        except (RequestRejected, EngineBusy, EngineLost, EngineFailed) as error:
            if self.first_seconds is not None or self.route.fallback is None:
                raise
            self.on_fallback(self.route, error)
            self.route = self.route.fallback
            self.events = _events_of(self.route, self.request)
        return await anext(self.events)

    async def aclose(self) -> None:
        """Ends the request in the engine."""
        await self.events.aclose()

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def answers(self) -> tuple[Finished, ...]:
        """By choice."""
        return tuple(self.finished[choice] for choice in sorted(self.finished))

    @property
    def usage(self) -> dict[str, int]:
        prompt, answer = self.started.prompt_tokens, sum(answer.tokens for answer in self.answers)
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    @property
    def headers(self) -> dict[str, str]:
        return {"x-strop-version": str(self.route.version)}


@asynccontextmanager
async def answering(gateway: Gateway, job: Job, id: str) -> AsyncIterator[Exchange]:
    """The exchange of a job. At the end of the block its engine is free again, also after an error or a cancellation.

    Raises:
        ApiError: it cannot be answered.
    """
    began = time.monotonic()
    limits = gateway.settings.limits
    exchange: Exchange | None = None
    error = ""
    try:
        async with (
            timeout(limits.request_seconds),
            gateway.admission.place(),
            gateway.router.lease(job.model, job.unit) as route,
        ):
            if not route.engine.is_alive:
                raise LOST
            request = _request(gateway, job, id, route)
            when = time.time()
            gateway.recorder.on_request(ServedRequest(request, route, job.path, job.unit, when, job.metadata))
            exchange = Exchange(request, route, _events_of(route, request), int(when), began, gateway.note_fallback)
            async with aclosing(exchange):
                yield exchange
    except (RequestRejected, EngineBusy, EngineLost, EngineFailed, ApiError, TimeoutError) as reason:
        failure = _as_api_error(reason, limits.request_seconds)
        error = failure.code
        raise failure from reason
    except (CancelledError, GeneratorExit):
        error = CANCELLED
        raise
    except BaseException:
        error = "internal_error"
        raise
    finally:
        if exchange is not None:
            _conclude(gateway, exchange, time.monotonic() - began, error)


def _events_of(route: Route, request: Request) -> AsyncGenerator[Event, None]:
    return cast(AsyncGenerator[Event, None], route.engine.answer(request))


def _request(gateway: Gateway, job: Job, id: str, route: Route) -> Request:
    sampling = job.sampling
    if sampling.max_tokens is None and not isinstance(job.prompt, TaskPrompt):
        sampling = replace(sampling, max_tokens=default_tokens(gateway.settings.limits, route.engine.facts))
    return Request(id, job.prompt, sampling, job.choices)


def _conclude(gateway: Gateway, exchange: Exchange, seconds: float, error: str) -> None:
    metrics, usage, started = gateway.metrics, exchange.usage, exchange.started
    if error == CANCELLED:
        metrics.cancelled.inc()
    if exchange.first_seconds is not None:
        metrics.first_seconds.observe(exchange.first_seconds)
    metrics.answers.labels(str(exchange.route.version)).inc(len(exchange.answers))
    metrics.tokens.labels("prompt").inc(usage["prompt_tokens"])
    metrics.tokens.labels("answer").inc(usage["completion_tokens"])
    prompt = started.prompt_tokens, started.template, started.is_shortened
    answer = ServedAnswer(
        exchange.id, exchange.route, exchange.answers, *prompt, seconds, exchange.first_seconds, error
    )
    gateway.recorder.on_answer(answer)


def _as_api_error(error: Exception, seconds: float) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestRejected):
        return ApiError(400, error.code, str(error), error.param)
    if isinstance(error, EngineBusy):
        return ApiError(429, "engine_busy", "The engine's queue is full.", retry_after=error.retry_after)
    if isinstance(error, EngineLost):
        return LOST
    if isinstance(error, TimeoutError):
        return ApiError(504, "timeout", f"The answer was not complete within {seconds:g} seconds.")
    return ApiError(500, "engine_error", "The engine failed at this request.")
