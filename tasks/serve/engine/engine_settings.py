"""Settings of the engine that computes the answers of `strop serve`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Settings

Seconds = Annotated[float, Field(gt=0, le=86_400)]
REQUIRED = ("{model}", "{port}")


class ServedPathSettings(Settings):
    most_rows: Annotated[int, Field(ge=20, le=1_000_000)] = 2000
    """Test rows of a version that the engine answers; if there are more, families in turn."""
    least_agreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least mean share of an answer's tokens before its first difference from the evaluated answer."""


class EngineSettings(Settings):
    kind: Literal["embedded", "url", "command"] = "embedded"
    """`embedded`: the engine of the evaluation, in processes of Strop. `url`: a server that runs already. `command`: a
    server that Strop starts, in an environment of its own. The last two speak vLLM's API, and answer for a version only after the
    [served-path check](serving.md#an-engine-outside)."""
    base_url: str | None = None
    """Of `url`: `http://gpu-1:8000/v1`. It serves the base; adapters of versions are loaded into it while it runs."""
    base_model: str | None = None
    """The base's name there; without it: the only model that is no adapter."""
    command: tuple[str, ...] | None = None
    """Of `command`, such as `["/opt/vllm/bin/vllm", "serve", "{model}", "--port", "{port}", "--dtype", "{dtype}", "--enable-lora",
    "--max-lora-rank", "64"]`. `{model}` is the folder of the base, or of a version with full weights; `{dtype}` is `bfloat16` or
    `float32`, as in the evaluation. A secret is the name of an environment variable: `--api-key`, `${SERVER_KEY}`."""
    models_folder: str | None = None
    """Where the server finds `.strop/models`, if it is in a container or on another machine; without it: where it is here."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the server's key."""
    start_seconds: Seconds = 900.0
    """Longest wait for a server until it answers."""
    stall_seconds: Seconds = 120.0
    """Longest wait for the next token of an answer; then the request gets 503, and the server is tested."""
    check: ServedPathSettings = ServedPathSettings()
    """The check of a version before this engine answers for it."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        needed = {"embedded": None, "url": "base_url", "command": "command"}[self.kind]
        for name in ("base_url", "command"):
            if name == needed and not getattr(self, name):
                raise ValueError(f"`kind: {self.kind}` needs `{name}`")
            if name != needed and getattr(self, name) is not None:
                raise ValueError(f"`{name}` is not a setting of `kind: {self.kind}`")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://", "${")):
            raise ValueError("base_url begins with http:// or https://")
        for name in REQUIRED:
            if self.command is not None and not any(name in argument for argument in self.command):
                raise ValueError(f"the command has no {name}")
        return self
