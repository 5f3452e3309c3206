"""Requests to an engine that serves, and the events with which it answers. Plain data: the gateway imports it without torch.

async for event in engine.answer(Request("resp_1", ChatPrompt(({"role": "user", "content": "Hello"},)), Sampling(max_tokens=16))):
    ...  # Started, then Deltas and a Finished of each choice
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Message = Mapping[str, Any]
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Sampling:
    max_tokens: int | None = None
    """None: up to the end of the context; of a task's prompt, as many as in the evaluation."""
    temperature: float = 0.0
    """0: greedy decoding."""
    top_p: float = 1.0
    seed: int | None = None
    """None: drawn for each request. Choice n of a request has the generator `seed + n`."""
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """The number of most probable tokens reported beside each token; None: no log probabilities."""
    json_schema: str | None = None
    """The schema that the answer must satisfy, as JSON; `{}`: any JSON object."""


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation, rendered with the version's chat template."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    """In OpenAI's form."""


@dataclass(frozen=True)
class TextPrompt:
    """A text that is continued without any template."""

    text: str


@dataclass(frozen=True)
class TaskPrompt:
    """The fields of a task family, rendered with the version's own template."""

    family: str
    fields: Mapping[str, Any]
    template: str | None = None
    shortens: bool = False
    """Shorten a prompt that is too long, instead of refusing it."""


@dataclass(frozen=True)
class Request:
    id: str
    prompt: ChatPrompt | TextPrompt | TaskPrompt
    sampling: Sampling = field(default_factory=Sampling)
    choices: int = 1


@dataclass(frozen=True)
class TokenLogprob:
    """A token of the answer."""

    text: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    """The most probable tokens at its place, the most probable first."""


@dataclass(frozen=True)
class Started:
    """The prompt was rendered, and the request is in the queue of the decoder."""

    prompt_tokens: int
    template: str = ""
    """The id of the task template; "" without one."""
    is_shortened: bool = False


@dataclass(frozen=True)
class Delta:
    """The next piece of a choice's answer. The pieces together are `Finished.text`; an answer that is calls has none."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Finished:
    """A choice is complete."""

    choice: int
    reason: FinishReason
    text: str
    """The raw answer."""
    tokens: int
    """Of the answer, with its end token. 0: a head answered."""
    calls: tuple[Mapping[str, Any], ...] = ()
    """Parsed tool calls: `name`, `arguments` (JSON text)."""
    value: Any = None
    """What evaluation reads in the answer to a task: text or JSON. None: it cannot be parsed, or the prompt is no task's."""
    is_unparsed: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of a classification head: label → probability, the most probable first. Of a reward model: `reward`."""


Event = Started | Delta | Finished


class RequestRejected(Exception):
    """The request itself is wrong: a prompt over the context, an unknown family, a schema that cannot be compiled.

    Args:
        code: such as `prompt_too_long`.
        param: the part of the request that is wrong.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


class EngineBusy(Exception):
    """The engine's queue is full: try again after `retry_after` seconds."""

    def __init__(self, retry_after: float = 1.0) -> None:
        super().__init__("the engine's queue is full")
        self.retry_after = retry_after


class EngineLost(Exception):
    """The engine ended, or does not respond; it is restarted."""


class EngineFailed(Exception):
    """This one answer failed in the engine, such as by logits that are not finite."""


@dataclass(frozen=True)
class EngineFacts:
    """What `/v1/models` reports of a loaded version."""

    engine: str
    """Name and version, such as `embedded transformers 5.24.0`."""
    precision: str
    is_exact: bool
    """Whether its greedy answers are those of the evaluation, token by token."""
    context_tokens: int | None = None
    families: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    """Of a model with a head; `("reward",)` of a reward model. None: it generates text."""


class OnlineEngine(Protocol):
    """A loaded version that answers requests."""

    @property
    def facts(self) -> EngineFacts: ...

    @property
    def is_alive(self) -> bool:
        """False while the engine is restarted."""
        ...

    def answer(self, request: Request) -> AsyncIterator[Event]:
        """The events of one request. Closing the iterator cancels the request and frees its slots.

        Raises (from the iteration):
            RequestRejected, EngineBusy, EngineLost, EngineFailed
        """
        ...

    async def close(self) -> None:
        """Ends the engine, after the requests under way or at once if they take too long."""
        ...
