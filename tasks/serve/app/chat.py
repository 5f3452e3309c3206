"""`/v1/chat/completions`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.serve.app.body import parse, unsupported_parameter
from tasks.serve.app.call import Call
from tasks.serve.app.exchange import Exchange, Job
from tasks.serve.app.messages import Message, Tool, rendered_messages, rendered_tools
from tasks.serve.app.sampling import (
    NEUTRAL,
    Common,
    Name,
    ResponseFormat,
    StreamOptions,
    Tokens,
    require_within,
    sampling_of,
)
from tasks.serve.app.writer import StreamWriter
from tasks.serve.engine.request import ChatPrompt, Delta, Finished, TokenLogprob
from tasks.serve.errors import ApiError

UNSUPPORTED = {
    *("audio", "function_call", "functions", "modalities", "moderation", "prediction", "prompt_cache_key"),
    *("prompt_cache_retention", "reasoning_effort", "safety_identifier", "verbosity", "web_search_options"),
}


class ChatBody(Common):
    model: Name
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Tokens | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] = 1
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["auto", "none"] | dict[str, Any] | str | None = None
    response_format: ResponseFormat | None = None

    @property
    def shown_tools(self) -> Sequence[Tool]:
        return [] if self.tools is None or self.tool_choice == "none" else self.tools


def read_chat(document: Mapping[str, Any], call: Call) -> tuple[Job, ChatWriter]:
    """Raises ApiError for a request that is not valid."""
    body = parse(ChatBody, document, {**NEUTRAL, "parallel_tool_calls": True}, UNSUPPORTED)
    _require_consistent(body)
    max_tokens = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    require_within(call.gateway.settings.limits, max_tokens, body.n)
    schema = body.response_format.as_schema() if body.response_format else None
    if schema is not None and body.shown_tools:
        message = "`response_format` with a schema and `tools` exclude each other."
        raise ApiError(400, "unsupported_value", message, "response_format")
    prompt = ChatPrompt(rendered_messages(body.messages), rendered_tools(body.shown_tools))
    sampling = sampling_of(body, max_tokens, (body.top_logprobs or 0) if body.logprobs else None, schema)
    job = Job(call.path, body.model, prompt, sampling, body.unit(call.caller.name, prompt), body.n, body.metadata)
    options = (body.stream_options or StreamOptions()) if body.stream else None
    return job, ChatWriter(options, has_logprobs=body.logprobs)


def _require_consistent(body: ChatBody) -> None:
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        message = "`max_tokens` and `max_completion_tokens` differ: send one of them."
        raise ApiError(400, "invalid_value", message, "max_completion_tokens")
    if body.tool_choice not in (None, "auto", "none"):
        raise unsupported_parameter("tool_choice", "The model decides (`auto`), or sees no tools (`none`).")
    if body.tool_choice == "auto" and body.tools is None:
        raise ApiError(400, "invalid_value", "`tool_choice` belongs to `tools`.", "tool_choice")
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "invalid_value", "`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "invalid_value", "`stream_options` needs `stream: true`.", "stream_options")


class ChatWriter(StreamWriter):
    def __init__(self, options: StreamOptions | None, *, has_logprobs: bool) -> None:
        super().__init__(options)
        self.has_logprobs = has_logprobs

    def body(self, exchange: Exchange) -> dict[str, Any]:
        choices = []
        for answer in exchange.answers:
            message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
            if answer.calls:
                message |= {"content": None, "tool_calls": _calls(answer)}
            logprobs = self._logprobs(exchange.logprobs.get(answer.choice, ()))
            choices.append(
                {"index": answer.choice, "message": message, "logprobs": logprobs, "finish_reason": _reason(answer)}
            )
        return {**self.head(exchange, "chat.completion"), "choices": choices, "usage": exchange.usage}

    def opening(self, exchange: Exchange) -> Iterator[dict[str, Any]]:
        for choice in range(exchange.request.choices):
            yield self._chunk(exchange, choice, {"role": "assistant", "content": ""})

    def piece(self, exchange: Exchange, delta: Delta) -> Iterator[dict[str, Any]]:
        if delta.text or (delta.logprobs and self.has_logprobs):
            yield self._chunk(exchange, delta.choice, {"content": delta.text}, delta.logprobs)

    def ending(self, exchange: Exchange, answer: Finished) -> Iterator[dict[str, Any]]:
        """Calls are sent whole: an engine sends no piece of an answer that is calls."""
        if answer.calls:
            calls = [{"index": number, **call} for number, call in enumerate(_calls(answer))]
            yield self._chunk(exchange, answer.choice, {"tool_calls": calls})
        yield self._chunk(exchange, answer.choice, {}, reason=_reason(answer))

    def empty(self, exchange: Exchange) -> dict[str, Any]:
        return {**self.head(exchange, "chat.completion.chunk"), "choices": []}

    def _chunk(
        self,
        exchange: Exchange,
        choice: int,
        delta: Mapping[str, Any],
        logprobs: Sequence[TokenLogprob] = (),
        reason: str | None = None,
    ) -> dict[str, Any]:
        entry = {"index": choice, "delta": delta, "finish_reason": reason, "logprobs": self._logprobs(logprobs)}
        return {**self.empty(exchange), "choices": [entry]}

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self.has_logprobs or not logprobs:
            return None
        content = [
            {**_token(token.text, token.logprob, token.bytes), "top_logprobs": [_token(*top) for top in token.top]}
            for token in logprobs
        ]
        return {"content": content, "refusal": None}


def _token(text: str, logprob: float, bytes_: Sequence[int] | None = None) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode() if bytes_ is None else bytes_)}


def _calls(answer: Finished) -> list[dict[str, Any]]:
    return [{"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": dict(c)} for c in answer.calls]


def _reason(answer: Finished) -> str:
    return "tool_calls" if answer.calls else answer.reason
