"""Turns → the text that a model's chat template makes of them, up to where an answer begins: for training, evaluation and chat.

A prompt is what the chat template writes when it is asked for an answer (`add_generation_prompt`), and what it then writes by
itself before an answer's text: Qwen3's empty thought, or a role's header where a template does not know `add_generation_prompt`.
White space alone belongs to the answer. An answer that thinks begins where the generation prompt ends: its thought is its own.
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
    """Turns, and whether an answer is asked for → text."""

    def __call__(self, messages: Sequence[Message], *, serving: bool = False) -> str: ...


THOUGHT = "reasoning_content"
"""The key of a message that holds what was thought before it."""
THOUGHT_TOO = "reasoning"
"""What some chat templates call it; `thinking`, which others do, is filled in by transformers."""
REFUSED = (TemplateError, TypeError, ValueError, KeyError, RecursionError)
"""What a chat template raises that cannot write a conversation."""
_QUESTION_PROBE, _ANSWER_PROBE = "StropQuestion5d1c", "StropAnswer8e2b"
_THOUGHT_PROBE = "StropThought3b7a"
_ANSWER = "StropAnswer7f3a9c0e5d"
"""Stands for an answer; no content holds it."""


class ChatWriter:
    """Fills in one tokenizer's chat template.

    Some templates know a content as a list of parts alone ([{"type": "text", "text": ...}]): they are given such. A thought is
    given by all of its names.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def write(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None, serving: bool = False
    ) -> str:
        """The text of the messages.

        Args:
            serving: an answer is asked for.

        Raises:
            ConfigError: the template leaves contents out, in whatever form they are given.
            jinja2.TemplateError, TypeError, ValueError, KeyError, RecursionError: the template cannot write these messages.
        """
        return self._fill_in([self._adapted(message) for message in messages], tools, serving)

    @cached_property
    def around_user(self) -> str:
        """What the template writes around a user's turn; "" where it cannot write one alone."""
        return self._tried(self._probes(*self._in_parts)[:1]) or ""

    def _fill_in(
        self, messages: list[Message], tools: Sequence[dict[str, Any]] | None = None, serving: bool = False
    ) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=serving
        )
        return text

    def _adapted(self, message: Message) -> Message:
        if THOUGHT in message:
            message = {THOUGHT_TOO: message[THOUGHT], **message}
        if self._in_parts[message["role"] == "assistant"]:
            message = {**message, "content": _in_form(message["content"], True)}
        return message

    @cached_property
    def writes_thoughts(self) -> bool:
        """Does the template write what was thought before the last answer?"""
        user, answer = self._probes(*self._in_parts)
        text = self._tried([user, {**answer, THOUGHT: _THOUGHT_PROBE, THOUGHT_TOO: _THOUGHT_PROBE}])
        return text is not None and _THOUGHT_PROBE in text

    @cached_property
    def _in_parts(self) -> tuple[bool, bool]:
        """Must a content be a list of parts: that of others' messages, and that of the assistant's?"""
        texts: list[str] = []
        for forms in ((False, False), (True, False), (False, True), (True, True)):
            text = self._tried(self._probes(*forms))
            texts += [] if text is None else [text]
            if text is not None and _QUESTION_PROBE in text and _ANSWER_PROBE in text:
                return forms
        if not texts or any(_QUESTION_PROBE in text or _ANSWER_PROBE in text for text in texts):
            return False, False  # what it refuses is reported of the real turns
        raise ConfigError(
            "the chat template leaves out what turns say, given as texts and as lists of parts",
            where="base.chat_template",
            fix="Set it to alpaca or chatml in params.yaml, or correct the template",
        )

    def _probes(self, others_in_parts: bool, answers_in_parts: bool) -> list[Message]:
        user: Message = {"role": "user", "content": _in_form(_QUESTION_PROBE, others_in_parts)}
        return [user, {"role": "assistant", "content": _in_form(_ANSWER_PROBE, answers_in_parts)}]

    def _tried(self, messages: list[Message]) -> str | None:
        try:
            return self._fill_in(messages)
        except REFUSED:
            return None


def opening(write: Write, messages: Sequence[Message]) -> tuple[str, str]:
    """What is before an answer to these messages: the generation prompt, and what the chat template then writes before an answer
    that does not think. Together they are the prompt.

    Raises:
        ConfigError: the chat template writes another prompt once an answer follows it.
    """
    begun = write(list(messages), serving=True)
    answered = write([*messages, {"role": "assistant", "content": _ANSWER}])
    before = answered[: max(answered.rfind(_ANSWER), 0)]
    if not before.startswith(begun.rstrip()):
        raise unlike()
    more = before[len(begun) :].rstrip(" ")  # a tokenizer joins a space with the word behind it
    return begun, more if more.strip() and before.startswith(begun) else ""


def has_thought(message: Message) -> bool:
    """Does an answer begin with a thought, in a field of its own or in its text?"""
    content = message["content"].lstrip()
    return bool(message.get(THOUGHT)) or (content.startswith(THOUGHT_BEGINS) and THOUGHT_ENDS in content)


def is_blank(message: Message) -> bool:
    """Is nothing in an answer: no word, no call, no thought?"""
    return not (message["content"].strip() or message.get("tool_calls") or message.get(THOUGHT))


def unlike() -> ConfigError:
    """The error for a chat template by which training and serving would differ."""
    return ConfigError(
        "the model's chat template writes another prompt when an answer follows, so that what is trained would not be "
        "what is served",
        where="base.chat_template",
        fix="Set it to alpaca or chatml in params.yaml",
    )


def refused(messages: Sequence[Message], error: Exception) -> ConfigError:
    """The error for turns that a chat template cannot write."""
    roles = " → ".join(message["role"] for message in messages)
    return ConfigError(
        f"the chat template refuses a conversation of the turns {roles}: {error}",
        where="base.chat_template",
        fix="Set it to alpaca or chatml in params.yaml, or correct the template",
    )


def _in_form(text: str, is_in_parts: bool) -> Any:
    return [{"type": "text", "text": text}] if is_in_parts else text
