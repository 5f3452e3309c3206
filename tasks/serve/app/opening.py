"""How a conversation begins: its system turn and its first user turn, which stay while it grows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.runtime.files import canonical_json
from tasks.serve.engine.request import ChatPrompt, TaskPrompt, TextPrompt

Prompt = ChatPrompt | TextPrompt | TaskPrompt


BESIDE_THE_TURN = ("system", "tools", "history", "thoughts", "language")
"""Fields of a task that are not its last user turn."""


def opening_of(prompt: Prompt) -> tuple[str, str]:
    """The two turns. Of a task with several fields and no earlier turns, the first user turn is all of them."""
    if isinstance(prompt, TextPrompt):
        return "", prompt.text
    if isinstance(prompt, ChatPrompt):
        return _first(prompt.messages, "system"), _first(prompt.messages, "user")
    fields = prompt.fields
    if isinstance(messages := fields.get("messages"), list):
        return _first(messages, "system"), _first(messages, "user")
    system = str(fields.get("system", ""))
    match fields.get("history"):
        case [[_, str(first)], *_]:
            return system, first
    turn = {name: value for name, value in fields.items() if name not in BESIDE_THE_TURN}
    text = next(iter(turn.values())) if len(turn) == 1 else None
    return system, text if isinstance(text, str) else canonical_json([prompt.family, turn])


def _first(messages: Sequence[Any], role: str) -> str:
    """The content of the first message of a role; a message of a task may have any form."""
    named = (message for message in messages if isinstance(message, Mapping) and message.get("role") == role)
    return next((str(message.get("content")) for message in named), "")
