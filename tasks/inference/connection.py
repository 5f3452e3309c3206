"""How an endpoint is called, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Connection:
    base_url: str
    """With its version: `https://api.example.com/v1`. `${NAME}` stands for an environment variable."""
    model: str
    owner: str
    """The settings of this connection, for messages: `the recipe's generator`."""
    api: Literal["chat", "completions"] = "chat"
    api_key_env: str | None = None
    """The name of the environment variable that holds the key."""
    max_tokens: int = 1024
    """Longest answer, in tokens."""
    temperature: float | None = None
    """None: the endpoint's own."""
    top_p: float | None = None
    timeout_seconds: float = 120.0
    """Longest wait for one answer."""
    attempts: int = 5
    """Maximum number of requests for one answer."""
    parallel_requests: int = 4
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of a request, such as `response_format`."""


@dataclass(frozen=True)
class Completion:
    text: str
    is_cut: bool = False
    """It was cut off, at the token limit or by the endpoint's filter."""
    prompt_tokens: int = 0
    """As the endpoint counts them; 0 if it does not."""
    completion_tokens: int = 0
    token_ids: tuple[int, ...] | None = None
    """The tokens of the text, if the endpoint tells them (vLLM's `return_token_ids`)."""
    refusal: str | None = None
    """Why the endpoint refuses this prompt, such as by its length; None if it does not."""
