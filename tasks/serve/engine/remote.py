"""An engine outside of this process: a server that speaks vLLM's API, with the version as an adapter or as its model.

The prompt is rendered here, and sent as token ids: what the version gets is what it was trained on, whatever template the
server has. Decision 44.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from tasks.serve.engine.remote_choice import RemoteChoice
from tasks.serve.engine.remote_request import completion_body, is_shared
from tasks.serve.engine.remote_server import RemoteServer
from tasks.serve.engine.remote_tokens import RemoteTokens
from tasks.serve.engine.remote_version import Decoding, RemoteVersion
from tasks.serve.engine.rendering import Rendered, RequestRenderer
from tasks.serve.engine.request import (
    EngineFacts,
    EngineFailed,
    EngineLost,
    Event,
    Finished,
    Request,
    RequestRejected,
    Sampling,
    Started,
)

DRAIN_SECONDS = 60.0
LAST_LINE_SECONDS = 1.0
"""For the end of a stream whose answers are complete, so that its connection is used again."""


class RemoteEngine:
    """An OnlineEngine.

    Args:
        model: the name of the version in the server.
        on_close: called when no request is under way any more.
    """

    def __init__(
        self,
        server: RemoteServer,
        model: str,
        tokenizer: Any,
        decoding: Decoding,
        facts: EngineFacts,
        max_new_tokens: int,
        on_close: Callable[[], Awaitable[None]],
    ) -> None:
        self.server, self.model, self.decoding, self.facts, self._on_close = server, model, decoding, facts, on_close
        self._renderer = RequestRenderer(tokenizer, decoding.templates, None, max_new_tokens, facts.context_tokens)
        self._tokens = RemoteTokens(copy.deepcopy(tokenizer))  # a tokenizer is used by one thread at a time
        self._thread = ThreadPoolExecutor(1, "render")
        self._open = 0
        self._is_closed = False

    @property
    def is_alive(self) -> bool:
        return self.server.is_alive and not self._is_closed

    async def answer(self, request: Request) -> AsyncIterator[Event]:
        """As OnlineEngine.answer."""
        if not self.is_alive:
            raise EngineLost(self.server.problem or "it is closed")
        self._open += 1
        try:
            loop = asyncio.get_running_loop()
            rendered = await loop.run_in_executor(self._thread, self._renderer.render, request)
            limit = rendered.limit - len(rendered.ids)
            if limit < 1:
                raise RequestRejected("prompt_too_long", "the prompt leaves no room for an answer", "prompt")
            yield Started(len(rendered.ids), rendered.template, rendered.is_shortened)
            async with aclosing(self._events(rendered, request.sampling, request.choices, limit)) as events:
                async for event in events:
                    yield event
        except EngineLost:
            self.server.suspect()
            raise
        finally:
            self._open -= 1

    async def close(self) -> None:
        """Ends it after the requests under way."""
        if self._is_closed:
            return
        self._is_closed, deadline = True, time.monotonic() + DRAIN_SECONDS
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._thread.shutdown(wait=False)
        await self._on_close()

    async def complete(self, rendered: Rendered, sampling: Sampling, limit: int) -> Finished:
        """The answer to a rendered prompt, by the path of `answer`. Raises as `answer`.

        Args:
            limit: most tokens of the answer.
        """
        async with aclosing(self._events(rendered, sampling, 1, limit)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event
        raise EngineFailed("the server ended its answer too early")

    async def _events(
        self, rendered: Rendered, sampling: Sampling, count: int, limit: int
    ) -> AsyncGenerator[Event, None]:
        decoding = self.decoding
        body = completion_body(
            self.model,
            rendered.ids,
            sampling,
            limit,
            decoding.ends,
            choices=count,
            repetition_penalty=decoding.repetition_penalty,
        )
        # with greedy decoding all choices are one answer
        repeats = count if is_shared(sampling) else 1
        numbers = range(count // repeats)
        choices = [RemoteChoice(n, rendered, sampling, self._tokens, decoding.ends, limit) for n in numbers]
        async with aclosing(self.server.client.stream(body)) as chunks:
            async for chunk in chunks:
                for event in _events_of(chunk, choices):
                    for number in range(repeats):
                        yield event if number == 0 else replace(event, choice=number)
                if all(choice.is_finished for choice in choices):
                    if not sampling.stop:  # else the server may go on
                        await _read_end(chunks)
                    return
        raise EngineFailed("the server ended its answer too early")


async def _read_end(chunks: AsyncGenerator[dict[str, Any], None]) -> None:
    with suppress(TimeoutError, EngineLost, EngineFailed):
        async with asyncio.timeout(LAST_LINE_SECONDS):
            async for _ in chunks:
                pass


def _events_of(chunk: dict[str, Any], choices: list[RemoteChoice]) -> list[Any]:
    """Raises EngineFailed for a chunk that is no part of a completion."""
    entries = chunk.get("choices")
    if not isinstance(entries, list):
        raise EngineFailed("a piece of the server's answer has no choices")
    events: list[Any] = []
    for entry in entries:
        index = entry.get("index", 0) if isinstance(entry, dict) else -1
        if not isinstance(index, int) or not 0 <= index < len(choices):
            raise EngineFailed("the server's answer has another choice than requested")
        events += choices[index].take(entry)
    return events


def facts_of(server: RemoteServer, version: RemoteVersion, decoding: Decoding) -> EngineFacts:
    """What is reported of a version. A server's answers may differ from those of the evaluation in near ties."""
    contexts = [each for each in (decoding.context, server.base.context) if each is not None]
    precision = version.precision if server.settings.kind == "command" else "unknown"
    families = tuple(decoding.templates.get("families", {}))
    return EngineFacts(server.engine, precision, False, min(contexts, default=None), families)
