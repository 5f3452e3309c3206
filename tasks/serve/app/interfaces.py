"""What the application uses, and others provide: a router of versions, a recorder of requests, and a receiver of feedback.

None of them may block the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.serve.access.keys import Caller
from tasks.serve.engine.request import EngineFacts, Finished, OnlineEngine, Request


@dataclass(frozen=True)
class Unit:
    """Whose request it is: a canary gives all requests of a unit the same version."""

    conversation: str = ""
    """`metadata.conversation`; "" without one."""
    user: str = ""
    """The field `user`; "" without one."""
    caller: str = ""
    """The name of the key."""
    system: str = ""
    first_turn: str = ""
    """System turn and first user turn, by which a conversation without a name is known."""


@dataclass(frozen=True)
class Route:
    """A version that answers a request."""

    name: str
    """`<model>@v3`."""
    version: int
    weights: str
    """The digest of its weights."""
    engine: OnlineEngine
    arm: str = ""
    """Of a canary: `champion:3f2a91c07b5d` or `canary:3f2a91c07b5d`, as drawn for the request's unit; "" without one."""
    arm_unit: str = ""
    """The unit for which the arm was drawn, as a digest."""
    fallback: Route | None = None
    """Of a canary: the champion, which answers where the canary fails before its first event."""

    @property
    def fingerprint(self) -> str:
        """`system_fingerprint` of a response."""
        return f"{self.name}+{self.engine.facts.engine.replace(' ', '-')}"


@dataclass(frozen=True)
class ModelCard:
    """An entry of `/v1/models`."""

    id: str
    version: int
    created: int
    """Seconds since 1970."""
    facts: EngineFacts | None
    """None: it is not loaded."""
    canary: Mapping[str, Any] | None = None
    """Of the champion: the canary that answers a share of its requests."""


@dataclass(frozen=True)
class Readiness:
    is_ready: bool
    version: int | None = None
    problems: tuple[str, ...] = ()
    """Also of a server that is ready, such as a ledger that cannot be read: the last known champion goes on serving."""


class Router(Protocol):
    def lease(self, name: str, unit: Unit) -> AbstractAsyncContextManager[Route]:
        """The version for a request; it stays loaded until the block ends.

        Args:
            name: `<model>`, `<model>@v3`, `<model>@challenger`; "": the champion.

        Raises:
            ApiError: there is no such version, or it cannot serve.
        """
        ...

    def models(self) -> Sequence[ModelCard]:
        """What requests may name."""
        ...

    @property
    def readiness(self) -> Readiness: ...


@dataclass(frozen=True)
class ServedRequest:
    """A request when its version is known, before it is answered."""

    request: Request
    """Its `id` is the response id, to which feedback refers."""
    route: Route
    path: str
    """Such as `/v1/chat/completions`."""
    unit: Unit
    when: float
    """Seconds since 1970."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    shadow_of: str = ""
    """The id of the response that was sent, if nobody sees this one; else ""."""


@dataclass(frozen=True)
class ServedAnswer:
    """The end of a request: answered, failed, or cancelled by the client."""

    id: str
    route: Route
    """The version that answered: the champion in place of a canary that failed."""
    answers: tuple[Finished, ...]
    """By choice; only those that were complete."""
    prompt_tokens: int
    template: str
    is_shortened: bool
    seconds: float
    first_seconds: float | None
    """The time to the first event of the engine; None: there was none."""
    error: str = ""
    """The code of the error; `cancelled` if the client ended the connection."""


class Recorder(Protocol):
    def on_request(self, served: ServedRequest) -> None: ...

    def on_answer(self, answer: ServedAnswer) -> None: ...


class RecordsNothing:
    """The recorder while recording is off."""

    def on_request(self, served: ServedRequest) -> None:
        pass

    def on_answer(self, answer: ServedAnswer) -> None:
        pass


class Feedback(Protocol):
    async def submit(self, document: Mapping[str, Any], caller: Caller, idempotency_key: str) -> Mapping[str, Any]:
        """Stores feedback on a response, once, and returns the body of the response.

        Args:
            document: the body of the request: a JSON object, otherwise unchecked.
            idempotency_key: the header of that name; "" without one.

        Raises:
            ApiError: 404 for an unknown response or one of another key, 422 for a value that is not allowed.
        """
        ...
