"""One answer that is decoded: a row in the batch, with its own sampling, end, text stream and reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tasks.inference.decoder import Row
from tasks.scoring.read_answer import AnswerReader
from tasks.serve.engine.choose import Chooser, log_probabilities, token_logprob
from tasks.serve.engine.ending import ending
from tasks.serve.engine.request import Delta, EngineFailed, Event, FinishReason, TokenLogprob
from tasks.serve.engine.text_stream import TextStream

Sink = Callable[[Event | Exception], None]
"""Takes the events of a request, or the error with which it ends."""


@dataclass
class OnlineRow(Row):
    """A choice of a request. `index` is the number of the choice.

    Args:
        key: the id of the request.
        reader: of an answer to a task, or of one that may call tools.
        is_task: the value that evaluation would read is reported.
        top: the number of most probable tokens reported beside each token; None: no log probabilities.
    """

    key: str
    chooser: Chooser
    stream: TextStream
    ends: frozenset[int]
    sink: Sink
    reader: AnswerReader
    is_task: bool = False
    top: int | None = None
    bytes_of: Callable[[int], bytes] = bytes
    order: int = 0
    """Larger for a row that entered later."""
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    """Those of tokens whose text is held back."""

    def log_probabilities(self, logits: torch.Tensor) -> torch.Tensor | None:
        """Those of the model, if they are reported. Before `logits` are changed."""
        return None if self.top is None else log_probabilities(logits)

    def take(self, token: int, log_probs: torch.Tensor | None) -> bool:
        """Adds the next token. Returns whether the answer is complete."""
        self.tokens.append(token)
        is_end = token in self.ends
        if not is_end:
            self.chooser.take(token)
            if log_probs is not None:
                self._logprobs.append(token_logprob(log_probs, token, self.top or 0, self.bytes_of))
        if reason := self._finish_reason(is_end):
            self._finish(reason)
        return reason is not None

    def fail(self, reason: str) -> None:
        self.sink(EngineFailed(reason))

    def _finish_reason(self, is_end: bool) -> FinishReason | None:
        if not is_end and not self.chooser.is_complete:
            # calls are text that no client should see before they are complete
            piece = "" if self.reader.may_call else self.stream.push(self.answer)
            if piece:
                self.sink(Delta(self.index, piece, self._taken_logprobs()))
            if not self.stream.is_stopped and not self._may_stop():
                return "length" if len(self.tokens) >= self.limit else None
        return "stop"

    def _may_stop(self) -> bool:
        """Whether a text that is not passed on in pieces has a stop string."""
        if self.reader.may_call and self.stream.stop:
            self.stream.push(self.answer)
        return self.stream.is_stopped

    def _finish(self, reason: FinishReason) -> None:
        sent = 0 if self.reader.may_call else len(self.stream.sent)
        self.stream.finish(self.answer)
        events = ending(
            self.index, self.stream, sent, self.reader, reason,
            is_task=self.is_task, tokens=len(self.answer), logprobs=self._taken_logprobs(),
        )  # fmt: skip
        for event in events:
            self.sink(event)

    def _taken_logprobs(self) -> tuple[TokenLogprob, ...]:
        taken, self._logprobs = tuple(self._logprobs), []
        return taken
