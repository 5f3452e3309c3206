"""The parameters of sampling that several routes share, and those of OpenAI's API that have no counterpart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tasks.serve.app.body import Body
from tasks.serve.app.interfaces import Unit
from tasks.serve.app.opening import Prompt, opening_of
from tasks.serve.engine.request import EngineFacts, Sampling
from tasks.serve.errors import ApiError
from tasks.serve.settings import LimitSettings

NEUTRAL: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "store": False,
    "service_tier": "auto",
}
"""Parameters that clients send by default: accepted at the value without an effect."""

Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Tokens = Annotated[int, Field(ge=1)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Common(Body):
    """Fields of every request for an answer."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Tokens | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] = []
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    user: Annotated[str, StringConstraints(max_length=200)] = ""
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(max_length=64)],
            Annotated[str, StringConstraints(max_length=512)],
        ],
        Field(max_length=16),
    ] = {}

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def unit(self, caller: str, prompt: Prompt) -> Unit:
        return Unit(self.metadata.get("conversation", ""), self.user, caller, *opening_of(prompt))


class StreamOptions(Body):
    include_usage: bool = False


class JsonSchema(Body):
    name: Name
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = {}
    description: str = ""
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def as_schema(self) -> str | None:
        """The schema for `Sampling.json_schema`."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            message = "`response_format.json_schema` belongs to the type json_schema."
            raise ApiError(400, "invalid_value", message, "response_format.json_schema")
        if self.type == "text":
            return None
        return json.dumps(self.json_schema.schema_ if self.json_schema else {}, ensure_ascii=False)


def sampling_of(body: Common, max_tokens: int | None, logprobs: int | None, json_schema: str | None) -> Sampling:
    return Sampling(
        max_tokens=max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop=body.stops,
        logprobs=logprobs,
        json_schema=json_schema,
    )


def require_within(limits: LimitSettings, max_tokens: int | None, choices: int) -> None:
    """Raises ApiError for more tokens or choices than allowed."""
    if max_tokens is not None and max_tokens > limits.max_tokens:
        message = f"`max_tokens` is {max_tokens}; at most {limits.max_tokens} are allowed."
        raise ApiError(400, "max_tokens_too_large", message, "max_tokens")
    if choices > limits.choices:
        raise ApiError(400, "too_many_choices", f"`n` is {choices}; at most {limits.choices} are allowed.", "n")


def default_tokens(limits: LimitSettings, facts: EngineFacts) -> int | None:
    """The token limit of a request that names none: that of the settings, or the context (None) where that is shorter."""
    is_longer = facts.context_tokens is not None and facts.context_tokens > limits.max_tokens
    return limits.max_tokens if is_longer else None
