"""Sends an exchange to the client: whole, or in pieces as they arrive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from tasks.serve.app.call import Call
from tasks.serve.app.exchange import Exchange
from tasks.serve.app.sampling import StreamOptions
from tasks.serve.engine.request import Delta, Finished


class Writer(ABC):
    """The form of a route's responses."""

    @abstractmethod
    def body(self, exchange: Exchange) -> dict[str, Any]:
        """The whole response."""

    def head(self, exchange: Exchange, object_: str) -> dict[str, Any]:
        route = exchange.route
        return {
            "id": exchange.id,
            "object": object_,
            "created": exchange.created,
            "model": route.name,
            "system_fingerprint": route.fingerprint,
        }


class StreamWriter(Writer):
    """The form of responses that may also be sent in pieces.

    Args:
        options: of a stream; None: the response is sent whole.
    """

    def __init__(self, options: StreamOptions | None) -> None:
        self.options = options

    def opening(self, exchange: Exchange) -> Iterator[dict[str, Any]]:
        """The first events of a stream."""
        return iter(())

    @abstractmethod
    def piece(self, exchange: Exchange, delta: Delta) -> Iterator[dict[str, Any]]:
        """The events for a piece of an answer."""

    @abstractmethod
    def ending(self, exchange: Exchange, answer: Finished) -> Iterator[dict[str, Any]]:
        """The events for the end of an answer."""

    @abstractmethod
    def empty(self, exchange: Exchange) -> dict[str, Any]:
        """An event without choices."""


async def send_exchange(call: Call, exchange: Exchange, writer: Writer) -> None:
    """An error before the first event of the engine is a response of its own; a later one ends the stream."""
    if not isinstance(writer, StreamWriter) or writer.options is None:
        async for _ in exchange:
            pass
        await call.send_json(writer.body(exchange), headers=exchange.headers)
        return
    has_usage = writer.options.include_usage
    async for event in exchange:
        chunks: Iterator[dict[str, Any]] = iter(())
        if not call.status:
            await call.begin_stream(exchange.headers)
            for chunk in writer.opening(exchange):
                await call.send_event({**chunk, "usage": None} if has_usage else chunk)
        if isinstance(event, Delta):
            chunks = writer.piece(exchange, event)
        elif isinstance(event, Finished):
            chunks = writer.ending(exchange, event)
        for chunk in chunks:
            await call.send_event({**chunk, "usage": None} if has_usage else chunk)
    if has_usage:
        await call.send_event({**writer.empty(exchange), "usage": exchange.usage})
    await call.end_stream()
