"""Settings of a server that generates answers in place of the embedded engine."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.runtime.base_settings import Settings

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Role = Literal["base", "champion", "candidate"]
REQUIRED = ("{model}", "{port}")


class ServedModel(Settings):
    base_url: str
    """The OpenAI-compatible endpoint, with its version: `http://gpu-1:8000/v1`."""
    model: str
    """The model's name there."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, base_url: str) -> str:
        if not base_url.startswith(("http://", "https://", "${")):
            raise ValueError("base_url begins with http:// or https://")
        return base_url


class ServerSettings(Settings):
    command: tuple[str, ...] | None = None
    """Starts a server with one model, for each model in turn, such as
    `["/opt/vllm/bin/vllm", "serve", "{model}", "--port", "{port}", "--dtype", "{dtype}"]`; the program is in an environment of its
    own. `{model}` is a folder with the weights (an adapter is merged into them) and the tokenizer; `{dtype}` is `bfloat16` or
    `float32`, by `evaluate.precision`. A secret is the name of an environment variable: `--api-key`, `${SERVER_KEY}`."""
    urls: dict[Role, ServedModel] | None = None
    """Servers that already serve the models, by role: `base`, `champion` and `candidate`. Strop cannot verify their weights, so the
    gate's check `inference` fails ([generation](evaluation.md#generation))."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key; the key itself is never in params.yaml."""
    start_seconds: Seconds = 900.0
    """Longest wait for a started server until it answers."""
    timeout_seconds: Seconds = 300.0
    """Longest wait for one answer."""
    attempts: Count = 5
    """Maximum number of requests for one answer, with growing pauses."""
    parallel_requests: Count = 32
    """Requests in parallel."""

    @field_validator("command")
    @classmethod
    def _has_placeholders(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in REQUIRED:
            if command is not None and not any(name in argument for argument in command):
                raise ValueError(f"the command has no {name}")
        return command

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.command is None) == (self.urls is None):
            raise ValueError("set either `command` or `urls`")
        return self
