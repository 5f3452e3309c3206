"""The records of a server: a response with its request, and feedback on it. Plain data, as JSON in the spool.

response = ServedResponse(id=new_response_id(), when=time.time(), version=3, ...)
record = response.as_json()     # {"kind": "response", "id": ..., ...}
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

RESPONSE, FEEDBACK = "response", "feedback"
Kind = Literal["boolean", "float", "comment", "demonstration"]
SourceType = Literal["human", "llm", "code"]

NOT_SAMPLED = "not_sampled"
"""`ServedResponse.omitted` of a response without texts, as `serve.record.text_share` sets."""


@dataclass(frozen=True)
class Answer:
    """One choice of a response."""

    text: str
    """The raw answer."""
    reason: str = "stop"
    """Why it ended: `stop`, `length` or `tool_calls`."""
    tokens: int = 0
    calls: tuple[Mapping[str, Any], ...] = ()
    """Parsed tool calls: `name`, `arguments` (JSON text)."""
    value: Any = None
    """What evaluation reads in the answer to a task; None: nothing, or the prompt is no task's."""


@dataclass(frozen=True)
class ServedResponse:
    id: str
    """`resp_` and 32 hexadecimal digits."""
    key: str
    """The name of the API key, never the key."""
    when: float
    """When the request arrived: seconds since 1970."""
    model: str
    """`<model>@v3`."""
    version: int
    weights: str
    """The digest of its weights."""
    engine: str
    prompt: Mapping[str, Any] = field(default_factory=dict)
    """`family`, `fields` and `template`; or `messages` and `tools`; or `text`. Empty if the texts are omitted."""
    answers: tuple[Answer, ...] = ()
    """By choice."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    """Such as `/v1/chat/completions`."""
    user: str = ""
    """A salted digest of the user, or of the key where a request names no user."""
    unit: str = ""
    """A salted digest of the conversation; "" without one."""
    prompt_tokens: int = 0
    seconds: float = 0.0
    """From the request to the end of the last answer."""
    first_token_seconds: float | None = None
    is_shortened: bool = False
    error: str = ""
    """The code of the error; `cancelled` if the client ended the connection."""
    is_shadow: bool = False
    """Nobody saw the answer: a challenger computed it beside the champion's."""
    shadow_of: str = ""
    """The id of the response that was sent instead."""
    arm: str = ""
    """Of a canary: `champion:3f2a91c07b5d` or `canary:3f2a91c07b5d`, with the beginning of its id; "" without one."""
    arm_unit: str = ""
    """A salted digest of the conversation or user for which the arm was drawn; "" without a canary."""
    omitted: str = ""
    """Why the texts are omitted: NOT_SAMPLED, or the kind of personal data that `curate.pii` refuses, such as `pii_email`."""

    def as_json(self) -> dict[str, Any]:
        """For the spool. What an index needs comes first: it reads a line's beginning without parsing the texts."""
        values: dict[str, Any] = {"kind": RESPONSE, "id": self.id, "key": self.key, "choices": len(self.answers)}
        values |= {name: value for name, value in vars(self).items() if name not in values}
        return values | {"answers": [dict(vars(answer)) for answer in self.answers]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ServedResponse:
        """Fields that a later release added are ignored."""
        known = _known(cls, values)
        given = [_known(Answer, answer) for answer in known.get("answers", ())]
        answers = tuple(Answer(**answer | {"calls": tuple(answer.get("calls", ()))}) for answer in given)
        return cls(**known | {"answers": answers})


@dataclass(frozen=True)
class Feedback:
    """What a person, a model or a program says of one answer."""

    id: str
    """`fb_` and 32 hexadecimal digits: equal for feedback that replaces earlier feedback."""
    response: str
    when: float
    type: Kind
    name: str
    value: bool | float | str
    choice: int = 0
    explanation: str = ""
    source: SourceType = "human"
    user: str = ""
    """A salted digest of who gave it."""
    key: str = ""
    """The name of the API key."""
    digest: str = ""
    """A salted digest of the content before masking: the same feedback again changes nothing."""
    request: str = ""
    """A salted digest of the `Idempotency-Key`; "" without one."""
    omitted: str = ""
    """The kind of personal data for which the text is omitted."""

    def as_json(self) -> dict[str, Any]:
        return {"kind": FEEDBACK, "id": self.id, **vars(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Feedback:
        return cls(**_known(cls, values))


@dataclass(frozen=True)
class Stored:
    id: str
    is_new: bool
    """False: it was stored before."""


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(cls)}
    return {name: value for name, value in values.items() if name in names}


def new_response_id() -> str:
    return f"resp_{secrets.token_hex(16)}"
