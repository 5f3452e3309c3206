"""A conversation → the text of the model's chat template, split where answers start and end.

A sequence is a list of texts, alternately context and answer; only answers are trained. Each context ends with the generation
prompt (`add_generation_prompt`), so that the trained prompt is the served one. This module applies the chat template for every
turn, and is exact; chat_template_cache.py gives the same result faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from tasks.chat.writing import (
    REFUSED,
    THOUGHT,
    ChatWriter,
    has_thought,
    is_blank,
    opening,
    prompt_mismatch,
    refused_error,
)
from tasks.errors import ConfigError
from tasks.prompts.templates.conversation import (
    UNTRAINED,
    Conversation,
    Message,
    as_text,
    with_answer_as_text,
    with_system_folded,
)
from tasks.records.ordered_json import as_written

Texts = list[str]
_PROBE_TOOL = {"type": "function", "function": {"name": "probe_f", "description": "d", "parameters": {
    "type": "object", "properties": {"probe_p": {"type": "string", "description": "d"}}, "required": []}}}  # fmt: skip
_PROBE_CALL = {"type": "function", "function": {"name": "probe_f", "arguments": {"probe_p": "probe_a"}}}


class ChatFormat:
    """One tokenizer's chat template, and the features that it supports: a system turn, tools, thoughts."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.writer = ChatWriter(tokenizer)

    @cached_property
    def has_system(self) -> bool:
        """Does it write a system turn? Some raise an error for one, and some omit it."""
        turns: list[Message] = [
            {"role": "system", "content": "probe_s"}, {"role": "user", "content": "probe_u"},
            {"role": "assistant", "content": "probe_a"},
        ]  # fmt: skip
        return self._writes_all(["probe_s"], turns)

    @cached_property
    def has_tools(self) -> bool:
        """Does it write tools, calls and results?"""
        turns: list[Message] = [
            {"role": "user", "content": "probe_u"}, {"role": "assistant", "content": "", "tool_calls": [_PROBE_CALL]},
            {"role": "tool", "content": "probe_r", "name": "probe_f"}, {"role": "assistant", "content": "probe_d"},
        ]  # fmt: skip
        writes_tools = self._writes_all(["probe_p"], turns[:1], [_PROBE_TOOL])
        return writes_tools and self._writes_all(["probe_f", "probe_a", "probe_r", "probe_d"], turns)

    def _writes_all(self, markers: list[str], messages: list[Message], tools: list[Any] | None = None) -> bool:
        try:
            text = self.writer.write(messages, tools)
        except REFUSED:
            return False
        return all(marker in text for marker in markers)

    def adapt(self, conversation: Conversation) -> Conversation:
        """The conversation without features that this chat template does not support. What precedes the answer is that of
        `adapt_context`, whatever the answer is: if only the answer is not supported (two calls at once), only it becomes text."""
        if conversation.has_tools and not (self.has_tools and self._supports_tools_of(conversation)):
            context = replace(conversation, messages=conversation.messages[:-1])
            is_by_template = context.has_tools and self.has_tools and self._supports_context(context)
            conversation = with_answer_as_text(conversation) if is_by_template else as_text(conversation)
        return self._folded(conversation)

    def adapt_context(self, context: Conversation) -> Conversation:
        """As `adapt`, for a conversation without its answer."""
        if context.has_tools and not (self.has_tools and self._supports_context(context)):
            context = as_text(context)
        return self._folded(context)

    def _folded(self, conversation: Conversation) -> Conversation:
        return conversation if self.has_system else with_system_folded(conversation)

    def _supports_context(self, context: Conversation) -> bool:
        """Does it write all calls and texts before an answer that is a text?"""
        answer: Message = {"role": "assistant", "content": "probe_a"}
        return self._supports_tools_of(replace(context, messages=[*context.messages, answer]))

    def _supports_tools_of(self, conversation: Conversation) -> bool:
        """Does it write all calls and texts? Some templates do not support two calls at once, or text with a call.

        The check replaces names and arguments of calls by unique markers, so that two calls of one function are distinguished.
        """
        texts = [m["content"].strip() for m in conversation.messages if m["content"].strip()]
        adapted = self._folded(conversation)
        markers: list[str] = []
        messages = [
            {**m, "tool_calls": [_with_markers(call, markers) for call in m["tool_calls"]]} if "tool_calls" in m else m
            for m in adapted.messages
        ]
        return self._writes_all([*texts, *markers], messages, list(adapted.tools) or None)

    def sequences(self, conversation: Conversation, all_turns: bool) -> list[Texts]:
        """The adapted conversation as sequences: one; or one per answer where the chat template writes earlier turns differently
        once more turns follow, so that no single text equals the served prompt at each of them.

        Args:
            all_turns: train on every turn of the assistant, not only on the last.

        Raises:
            ConfigError: the chat template raises an error for the turns, or changes the prompt when an answer follows it.
        """
        messages = conversation.messages
        spans = []
        for index in answers_of(conversation, all_turns):
            generation_prompt, prefix = self.opening(conversation, messages[:index])
            prompt, whole = generation_prompt + prefix, self.text(conversation, messages[: index + 1]).rstrip()
            if prefix and not whole.startswith(prompt) and whole.startswith(generation_prompt):
                if has_thought(messages[index]):
                    prompt = generation_prompt
                else:  # such as a call, before which some templates write no empty thought: the served prompt has it
                    whole = prompt + whole[len(generation_prompt) :]
            if not whole.startswith(prompt.rstrip()):
                raise prompt_mismatch()
            # a blank answer: without trailing white space, the text may be shorter than the prompt
            if not self.is_blank(messages[index]) and not whole.startswith(prompt):
                raise prompt_mismatch()
            spans.append((prompt, whole if whole.startswith(prompt) else prompt))
        last = spans[-1][1]
        if all(last.startswith(whole) for _, whole in spans):
            return [_split_at(last, [(len(prompt), len(whole)) for prompt, whole in spans])]
        return [[prompt, whole[len(prompt) :]] for prompt, whole in spans]

    def is_blank(self, message: Message) -> bool:
        """Is an answer empty as this chat template writes it: no text, no call, no thought?"""
        return is_blank(message) or (not self.writer.writes_thoughts and is_blank({**message, THOUGHT: ""}))

    def opening(self, conversation: Conversation, messages: Sequence[Message]) -> tuple[str, str]:
        """The generation prompt after some of the conversation's messages, and the text that the template then puts before an
        answer."""
        return opening(partial(self.text, conversation), messages)

    @cached_property
    def has_thinking_mode(self) -> bool:
        """Do answers without a thought get an empty thought as part of their prompt, unlike answers with one?"""
        user: list[Message] = [{"role": "user", "content": "probe_u"}]
        thinking: Message = {"role": "assistant", "content": "probe_a", THOUGHT: "probe_t"}
        conversation = Conversation([*user, thinking])
        try:
            generation_prompt, prefix = self.opening(conversation, user)
            whole = self.text(conversation, conversation.messages)
        except ConfigError:
            return False
        return bool(prefix) and whole.startswith(generation_prompt) and not whole.startswith(generation_prompt + prefix)

    def text(self, conversation: Conversation, messages: Sequence[Message], serving: bool = False) -> str:
        """The text of the chat template for some of the conversation's messages."""
        shown = [{key: m[key] for key in m if key != UNTRAINED} if UNTRAINED in m else m for m in messages]
        try:
            return as_written(self.writer.write(shown, conversation.tools, serving))
        except REFUSED as error:
            raise refused_error(messages, error) from error


def answers_of(conversation: Conversation, all_turns: bool) -> list[int]:
    """The indices of the messages that are trained: those of the assistant, or only the last."""
    messages = conversation.messages
    if not all_turns:
        return [len(messages) - 1]
    return [i for i, m in enumerate(messages) if m["role"] == "assistant" and UNTRAINED not in m]


def _with_markers(call: Any, markers: list[str]) -> Any:
    """The call with unique markers for its name and each string of its arguments; they are added to `markers`."""

    def replace(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replace(item) for key, item in value.items()}
        if isinstance(value, list):
            return [replace(item) for item in value]
        if isinstance(value, str):
            markers.append(f"probe_{len(markers)}_")
            return markers[-1]
        return value

    function = call["function"]
    return {**call, "function": {"name": replace(function["name"]), "arguments": replace(function["arguments"])}}


def _split_at(text: str, spans: list[tuple[int, int]]) -> Texts:
    parts, position = [], 0
    for start, end in spans:
        parts += [text[position:start], text[start:end]]
        position = end
    return parts
