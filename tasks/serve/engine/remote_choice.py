"""One choice of an answer that a server sends in pieces: its text stream, its end, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tasks.serve.engine.ending import ending
from tasks.serve.engine.remote_tokens import RemoteTokens
from tasks.serve.engine.rendering import Rendered
from tasks.serve.engine.request import (
    Delta,
    EngineFailed,
    Event,
    FinishReason,
    Sampling,
    TokenLogprob,
)
from tasks.serve.engine.text_stream import TextDecoder, TextStream

REASONS: tuple[FinishReason, ...] = ("stop", "length")


@dataclass
class RemoteChoice:
    """
    Args:
        ends: tokens at which an answer ends.
        limit: most tokens of the answer.
    """

    index: int
    rendered: Rendered
    sampling: Sampling
    tokens: RemoteTokens
    ends: frozenset[int]
    limit: int
    is_finished: bool = False
    _received: list[Any] = field(default_factory=list)
    """Token ids, or pieces of text where the server sends none."""
    _has_ids: bool | None = None
    _stream: TextStream | None = None
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    """Those of tokens whose text is held back."""

    def take(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        """The events after a piece from the server.

        Raises:
            EngineFailed: the piece is no part of an answer.
        """
        if self.is_finished:
            return
        self._add(choice)
        reason, reader = choice.get("finish_reason"), self.rendered.reader
        is_held = reader.may_call  # calls are text that no client should see before they are complete
        piece = self.stream.push(self._answer)
        if piece and not is_held:
            yield Delta(self.index, piece, self._taken_logprobs())
        if self.stream.is_stopped or reason is not None:
            yield from self._finish(reason, 0 if is_held else len(self.stream.sent))

    @property
    def stream(self) -> TextStream:
        if self._stream is None:
            decoder = self.tokens.by_ids if self._has_ids else cast(TextDecoder, self.tokens.by_text)
            self._stream = TextStream(decoder, self.sampling.stop)
        return self._stream

    @property
    def _answer(self) -> list[Any]:
        """Without end tokens: their text would be a part of no answer."""
        return [each for each in self._received if each not in self.ends] if self._has_ids else self._received

    def _add(self, choice: Mapping[str, Any]) -> None:
        ids, text = self.tokens.ids_of(choice), choice.get("text")
        if not isinstance(text, str):
            raise EngineFailed("the server's answer has no text")
        if self._has_ids is None and (ids or text):
            self._has_ids = ids is not None
        self._received += ids or [] if self._has_ids else [text] if text else []
        if self._has_ids and len(self._received) > self.limit:
            raise EngineFailed(f"the server's answer has more than {self.limit} tokens")
        if self.sampling.logprobs is not None:
            probabilities = self.tokens.logprobs_of(choice, self.sampling.logprobs)
            is_known = ids is not None and len(ids) == len(probabilities)
            kept = [each for each, number in zip(probabilities, ids or (), strict=False) if number not in self.ends]
            self._logprobs += kept if is_known else probabilities

    def _finish(self, reason: Any, sent: int) -> Iterator[Event]:
        if not self.stream.is_stopped and reason not in REASONS:
            raise EngineFailed(f"the server ended its answer by `{str(reason)[:40]}`")
        self.stream.finish(self._answer)
        _require_json(self.sampling, self.stream.sent, reason)
        self.is_finished = True
        yield from ending(
            self.index, self.stream, sent, self.rendered.reader, cast(FinishReason, reason),
            is_task=self.rendered.is_task, tokens=len(self._received), logprobs=self._taken_logprobs(),
        )  # fmt: skip

    def _taken_logprobs(self) -> tuple[TokenLogprob, ...]:
        taken, self._logprobs = tuple(self._logprobs), []
        return taken


def _require_json(sampling: Sampling, text: str, reason: Any) -> None:
    """Raises EngineFailed where a complete answer with a schema is not JSON: a server ignores fields that it does not know."""
    if sampling.json_schema is None or reason == "length":
        return
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineFailed("the server did not apply the JSON schema") from error
    if not json.loads(sampling.json_schema) and not isinstance(document, dict):
        raise EngineFailed("the server's answer is no JSON object")
