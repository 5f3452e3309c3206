"""Turns → the prompt text of a model's chat template, for training, evaluation and chat.

A prompt is the chat template's text with `add_generation_prompt`, and the text that the template then puts before an answer:
Qwen3's empty thought, or a role header where a template ignores `add_generation_prompt`. White space alone belongs to the answer.
An answer with a thought starts where the generation prompt ends: the thought is part of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from jinja2 import TemplateError

from tasks.errors import ConfigError
from tasks.scoring.thoughts import THOUGHT_BEGINS, THOUGHT_ENDS

Message = dict[str, Any]


class Write(Protocol):
    """Turns, and whether to add the generation prompt → text."""

    def __call__(self, messages: Sequence[Message], *, serving: bool = False) -> str: ...


THOUGHT = "reasoning_content"
"""The key of a message for the thought before it."""
THOUGHT_ALIAS = "reasoning"
"""The same key in some chat templates; transformers sets a third one, `thinking`."""
REFUSED = (TemplateError, TypeError, ValueError, KeyError, RecursionError)
"""Errors of a chat template that cannot write a conversation."""
_QUESTION_PROBE, _ANSWER_PROBE = "StropQuestion5d1c", "StropAnswer8e2b"
_THOUGHT_PROBE = "StropThought3b7a"
_ANSWER = "StropAnswer7f3a9c0e5d"
"""A placeholder for an answer that no content holds."""


class ChatWriter:
    """Applies one tokenizer's chat template.

    Some templates accept contents only as lists of parts ([{"type": "text", "text": ...}]), and get these. A thought is passed
    under all of its keys.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def write(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None, serving: bool = False
    ) -> str:
        """The text of the messages.

        Args:
            serving: add the generation prompt.

        Raises:
            ConfigError: the template omits contents, both as texts and as lists of parts.
            jinja2.TemplateError, TypeError, ValueError, KeyError, RecursionError: the template cannot write these messages.
        """
        return self._apply([self._adapt(message) for message in messages], tools, serving)

    @cached_property
    def around_user(self) -> str:
        """The text that the template writes around a user's turn; "" where it cannot write one alone."""
        return self._try(self._probes(*self._in_parts)[:1]) or ""

    def _apply(
        self, messages: list[Message], tools: Sequence[dict[str, Any]] | None = None, serving: bool = False
    ) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=serving
        )
        return text

    def _adapt(self, message: Message) -> Message:
        if THOUGHT in message:
            message = {THOUGHT_ALIAS: message[THOUGHT], **message}
        if self._in_parts[message["role"] == "assistant"]:
            message = {**message, "content": _as_content(message["content"], True)}
        return message

    @cached_property
    def writes_thoughts(self) -> bool:
        """Does the template write the thought before the last answer?"""
        user, answer = self._probes(*self._in_parts)
        text = self._try([user, {**answer, THOUGHT: _THOUGHT_PROBE, THOUGHT_ALIAS: _THOUGHT_PROBE}])
        return text is not None and _THOUGHT_PROBE in text

    @cached_property
    def _in_parts(self) -> tuple[bool, bool]:
        """Must contents be lists of parts: those of other roles, and those of the assistant?"""
        texts: list[str] = []
        for in_parts in ((False, False), (True, False), (False, True), (True, True)):
            text = self._try(self._probes(*in_parts))
            texts += [] if text is None else [text]
            if text is not None and _QUESTION_PROBE in text and _ANSWER_PROBE in text:
                return in_parts
        if not texts or any(_QUESTION_PROBE in text or _ANSWER_PROBE in text for text in texts):
            return False, False  # an error is reported for the real turns
        raise ConfigError(
            "the chat template omits the contents of turns, both as texts and as lists of parts",
            where="base.chat_template",
            fix="Set it to alpaca or chatml in params.yaml, or correct the template",
        )

    def _probes(self, others_in_parts: bool, answers_in_parts: bool) -> list[Message]:
        user: Message = {"role": "user", "content": _as_content(_QUESTION_PROBE, others_in_parts)}
        return [user, {"role": "assistant", "content": _as_content(_ANSWER_PROBE, answers_in_parts)}]

    def _try(self, messages: list[Message]) -> str | None:
        try:
            return self._apply(messages)
        except REFUSED:
            return None


def opening(write: Write, messages: Sequence[Message]) -> tuple[str, str]:
    """The prompt of an answer to these messages in two parts: the generation prompt, and the text that the chat template then puts
    before an answer without a thought.

    Raises:
        ConfigError: the chat template writes another prompt when an answer follows.
    """
    generation_prompt = write(list(messages), serving=True)
    with_answer = write([*messages, {"role": "assistant", "content": _ANSWER}])
    before = with_answer[: max(with_answer.rfind(_ANSWER), 0)]
    if not before.startswith(generation_prompt.rstrip()):
        raise prompt_mismatch()
    prefix = before[len(generation_prompt) :].rstrip(" ")  # a tokenizer merges a space with the word after it
    return generation_prompt, prefix if prefix.strip() and before.startswith(generation_prompt) else ""


def has_thought(message: Message) -> bool:
    """Does an answer start with a thought, in its own field or in its text?"""
    content = message["content"].lstrip()
    return bool(message.get(THOUGHT)) or (content.startswith(THOUGHT_BEGINS) and THOUGHT_ENDS in content)


def is_blank(message: Message) -> bool:
    """Is an answer empty: no text, no call, no thought?"""
    return not (message["content"].strip() or message.get("tool_calls") or message.get(THOUGHT))


def prompt_mismatch() -> ConfigError:
    """The error for a chat template with which training and serving would have different prompts."""
    return ConfigError(
        "the model's chat template writes another prompt when an answer follows, so that the trained prompt would not be "
        "the served one",
        where="base.chat_template",
        fix="Set it to alpaca or chatml in params.yaml",
    )


def refused_error(messages: Sequence[Message], error: Exception) -> ConfigError:
    """The error for turns that a chat template cannot write."""
    roles = " → ".join(message["role"] for message in messages)
    return ConfigError(
        f"the chat template raises an error for the turns {roles}: {error}",
        where="base.chat_template",
        fix="Set it to alpaca or chatml in params.yaml, or correct the template",
    )


def _as_content(text: str, is_in_parts: bool) -> Any:
    return [{"type": "text", "text": text}] if is_in_parts else text
