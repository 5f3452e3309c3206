"""`/v1/completions`: a text that is continued without any template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from tasks.serve.app.body import parse
from tasks.serve.app.call import Call
from tasks.serve.app.exchange import Exchange, Job
from tasks.serve.app.sampling import NEUTRAL, Common, Name, StreamOptions, Tokens, require_within, sampling_of
from tasks.serve.app.writer import StreamWriter
from tasks.serve.engine.request import Delta, Finished, TextPrompt, TokenLogprob
from tasks.serve.errors import ApiError

Prompt = Annotated[str, StringConstraints(min_length=1)]
DEFAULT_TOKENS = 16
"""As in OpenAI's API."""


class CompletionsBody(Common):
    model: Name
    prompt: Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=1)]
    max_tokens: Tokens | None = DEFAULT_TOKENS
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] = 1
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None


def read_completions(document: Mapping[str, Any], call: Call) -> tuple[Job, CompletionsWriter]:
    """Raises ApiError for a request that is not valid."""
    body = parse(CompletionsBody, document, {**NEUTRAL, "best_of": 1, "echo": False}, {"suffix"})
    require_within(call.gateway.settings.limits, body.max_tokens, body.n)
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "invalid_value", "`stream_options` needs `stream: true`.", "stream_options")
    prompt = TextPrompt(body.prompt if isinstance(body.prompt, str) else body.prompt[0])
    sampling = sampling_of(body, body.max_tokens, body.logprobs, None)
    job = Job(call.path, body.model, prompt, sampling, body.unit(call.caller.name, prompt), body.n, body.metadata)
    options = (body.stream_options or StreamOptions()) if body.stream else None
    return job, CompletionsWriter(options, has_logprobs=body.logprobs is not None)


class CompletionsWriter(StreamWriter):
    def __init__(self, options: StreamOptions | None, *, has_logprobs: bool) -> None:
        super().__init__(options)
        self.has_logprobs = has_logprobs
        self._lengths: dict[int, int] = {}
        """Choice → characters of the tokens whose log probabilities were sent."""

    def body(self, exchange: Exchange) -> dict[str, Any]:
        choices = [
            self._choice(answer.choice, answer.text, exchange.logprobs.get(answer.choice, ()), answer.reason)
            for answer in exchange.answers
        ]
        return {**self.empty(exchange), "choices": choices, "usage": exchange.usage}

    def piece(self, exchange: Exchange, delta: Delta) -> Iterator[dict[str, Any]]:
        if delta.text or (delta.logprobs and self.has_logprobs):
            choice = self._choice(delta.choice, delta.text, delta.logprobs, None)
            yield {**self.empty(exchange), "choices": [choice]}

    def ending(self, exchange: Exchange, answer: Finished) -> Iterator[dict[str, Any]]:
        yield {**self.empty(exchange), "choices": [self._choice(answer.choice, "", (), answer.reason)]}

    def empty(self, exchange: Exchange) -> dict[str, Any]:
        return {**self.head(exchange, "text_completion"), "choices": []}

    def _choice(self, choice: int, text: str, tokens: Sequence[TokenLogprob], reason: str | None) -> dict[str, Any]:
        entry = {"index": choice, "text": text, "logprobs": None, "finish_reason": reason}
        if not self.has_logprobs or not tokens:
            return entry
        offsets = []
        for token in tokens:
            offsets.append(self._lengths.setdefault(choice, 0))
            self._lengths[choice] += len(token.text)
        logprobs = {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [dict(token.top) for token in tokens],
            "text_offset": offsets,
        }
        return {**entry, "logprobs": logprobs}
