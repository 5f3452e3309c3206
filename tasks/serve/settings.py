"""Settings of `strop serve`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.feedback.settings import RecordSettings
from tasks.runtime.base_settings import Settings
from tasks.serve.canary_settings import CanarySettings
from tasks.serve.deliver.settings import DeliverSettings, ReviewSettings
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.shadow.settings import ShadowSettings

Role = Literal["predict", "feedback", "admin"]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class KeySettings(Settings):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    """The name of the key in records of requests and feedback."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The environment variable that has the key, of at least 32 characters: `openssl rand -hex 32`. It is removed from the
    environment of the server when it starts, and only its sha256 is kept."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = ("predict", "feedback")
    """`predict`: models and answers. `feedback`: feedback on answers to the same key. `admin`: also feedback on all answers, and
    `/metrics`."""


class LimitSettings(Settings):
    body_bytes: Annotated[int, Field(ge=1000, le=1_000_000_000)] = 1_000_000
    """Most bytes of a request's body; above it: 413."""
    max_tokens: Count = 4096
    """Most tokens of an answer; a request for more: 400. If the context is longer, also the limit of a request without one."""
    choices: Annotated[int, Field(ge=1, le=128)] = 8
    """Most answers to one request (`n`)."""
    concurrency: Count = 32
    """Requests that are answered at the same time."""
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 128
    """Requests that wait for a place; above it: 429 with `Retry-After`."""
    connections: Count = 1000
    """Open connections; above it: 503. The limit of open files (`ulimit -n`) must be higher."""
    request_seconds: Seconds = 600.0
    """Time limit of a request, with its time in the queue; then: 504."""
    receive_seconds: Seconds = 30.0
    """Time limit for a client to send a request; then: 408."""
    send_seconds: Seconds = 60.0
    """Time in which a client must read what was sent to it; then its connection is closed."""
    load_seconds: Seconds = 900.0
    """Time limit for loading a version."""
    drain_seconds: Seconds = 60.0
    """After SIGTERM: the time for answers under way."""


class ServeSettings(Settings):
    host: str = "127.0.0.1"
    """The address to listen on. Beyond loopback, keys and texts are sent without encryption: put a TLS proxy in front."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port; 0: a free one."""
    host_names: tuple[str, ...] = ()
    """Further host names under which clients reach the server, such as `models.example.com`. Requests with others are refused."""
    api_keys: tuple[KeySettings, ...] = ()
    """API keys beside that of the project, which is in `.strop/serve/key` and has all roles."""
    allow_unpromoted: bool = False
    """Whether `<model>@vN` may name a version that did not pass the gate and never served, or was rejected."""
    loaded_versions: Annotated[int, Field(ge=1, le=100)] = 1
    """Versions loaded beside the champion, for `<model>@vN` and `<model>@challenger`; the one that was used least recently is
    unloaded first. Each takes the memory of a model."""
    engine: EngineSettings = EngineSettings()
    """What computes the answers."""
    limits: LimitSettings = LimitSettings()
    """Limits of requests and connections."""
    deliver: DeliverSettings = DeliverSettings()
    """Traces in MLflow of what was served."""
    review: ReviewSettings = ReviewSettings()
    """Answers that people should look at, in a review queue of MLflow."""
    record: RecordSettings = RecordSettings()
    """What is written of requests, answers and feedback."""
    canary: CanarySettings = CanarySettings()
    """A version that answers a share of the users until their ratings decide."""
    shadow: ShadowSettings = ShadowSettings()
    """A version that answers unseen, beside the champion."""

    @model_validator(mode="after")
    def _names_keys_once(self) -> "ServeSettings":
        names = [key.name for key in self.api_keys]
        if repeated := sorted({name for name in names if names.count(name) > 1 or name == PROJECT_KEY}):
            raise ValueError(f"several keys have the name {repeated[0]}")
        return self


PROJECT_KEY = "project"
"""The name of the key in `.strop/serve/key`."""
