"""A conversation → the text that the model's chat template makes of it, cut where answers begin and end.

A sequence is a list of texts, in turn context and answer: what is trained is every second one. Each context ends where the chat
template would let the assistant begin (`add_generation_prompt`), so that what is trained is what is served. This module asks the
chat template for every turn, and is exact; chat_template_cache.py gives the same, thousands of rows a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

from tasks.chat.writing import REFUSED, THOUGHT, ChatWriter, has_thought, is_blank, opening, refused, unlike
from tasks.errors import ConfigError
from tasks.records.ordered_json import as_written
from tasks.render.templates.conversation import UNTRAINED, Conversation, Message, as_text, with_system_folded

Texts = list[str]
_PROBE_TOOL = {"type": "function", "function": {"name": "probe_f", "description": "d", "parameters": {
    "type": "object", "properties": {"probe_p": {"type": "string", "description": "d"}}, "required": []}}}  # fmt: skip
_PROBE_CALL = {"type": "function", "function": {"name": "probe_f", "arguments": {"probe_p": "probe_a"}}}


class ChatFormat:
    """One tokenizer's chat template, and what it knows: a system turn, tools."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._writer = ChatWriter(tokenizer)

    @cached_property
    def has_system(self) -> bool:
        """Does it write a system turn? Some refuse one, and some leave it out."""
        turns: list[Message] = [
            {"role": "system", "content": "probe_s"}, {"role": "user", "content": "probe_u"},
            {"role": "assistant", "content": "probe_a"},
        ]  # fmt: skip
        return self._shows(["probe_s"], turns)

    @cached_property
    def has_tools(self) -> bool:
        """Does it write the tools, a call, and a tool's answer?"""
        turns: list[Message] = [
            {"role": "user", "content": "probe_u"}, {"role": "assistant", "content": "", "tool_calls": [_PROBE_CALL]},
            {"role": "tool", "content": "probe_r", "name": "probe_f"}, {"role": "assistant", "content": "probe_d"},
        ]  # fmt: skip
        told = self._shows(["probe_p"], turns[:1], [_PROBE_TOOL])
        return told and self._shows(["probe_f", "probe_a", "probe_r", "probe_d"], turns)

    @cached_property
    def has_thoughts(self) -> bool:
        """Does it write what was thought before the last answer?"""
        return self._writer.writes_thoughts

    @property
    def around_user(self) -> str:
        """What it writes around a user's turn."""
        return self._writer.around_user

    def _shows(self, marks: list[str], messages: list[Message], tools: list[Any] | None = None) -> bool:
        try:
            text = self._writer.write(messages, tools)
        except REFUSED:
            return False
        return all(mark in text for mark in marks)

    def fitted(self, conversation: Conversation) -> Conversation:
        """The conversation as this chat template can say it."""
        if conversation.has_tools and not (self.has_tools and self._takes(conversation)):
            conversation = as_text(conversation)
        return conversation if self.has_system else with_system_folded(conversation)

    def _takes(self, conversation: Conversation) -> bool:
        """Some templates know tools, but not two calls at once, or words beside a call.

        Calls are asked for under names and arguments that occur nowhere else: two calls of one function are told apart.
        """
        texts = [m["content"].strip() for m in conversation.messages if m["content"].strip()]
        fitted = conversation if self.has_system else with_system_folded(conversation)
        marks: list[str] = []
        messages = [
            {**m, "tool_calls": [_marked(call, marks) for call in m["tool_calls"]]} if "tool_calls" in m else m
            for m in fitted.messages
        ]
        return self._shows([*texts, *marks], messages, list(fitted.tools) or None)

    def sequences(self, conversation: Conversation, every: bool) -> list[Texts]:
        """The fitted conversation as sequences: one, or one an answer where the chat template writes earlier turns otherwise once
        more turns follow, so that no one text is what is served at each of them.

        Args:
            every: train on every turn of the assistant, not the last alone.

        Raises:
            ConfigError: the chat template refuses the turns, or changes the prompt when an answer follows it.
        """
        messages = conversation.messages
        spans = []
        for place in answers_of(conversation, every):
            begun, more = self.opening(conversation, messages[:place])
            prompt, whole = begun + more, self.text(conversation, messages[: place + 1]).rstrip()
            if more and not whole.startswith(prompt) and whole.startswith(begun):
                if has_thought(messages[place]):
                    prompt = begun
                else:  # such as a call, before which some templates write no empty thought: the prompt is served with it
                    whole = prompt + whole[len(begun) :]
            if not whole.startswith(prompt.rstrip()):
                raise unlike()
            # a blank answer: what is left after white space is taken off the end may be shorter than the prompt
            if not self.is_blank(messages[place]) and not whole.startswith(prompt):
                raise unlike()
            spans.append((prompt, whole if whole.startswith(prompt) else prompt))
        last = spans[-1][1]
        if all(last.startswith(whole) for _, whole in spans):
            return [_cut_at(last, [(len(prompt), len(whole)) for prompt, whole in spans])]
        return [[prompt, whole[len(prompt) :]] for prompt, whole in spans]

    def is_blank(self, message: Message) -> bool:
        """Is nothing in an answer that this chat template writes: no word, no call, no thought?"""
        return is_blank(message) or (not self.has_thoughts and is_blank({**message, THOUGHT: ""}))

    def opening(self, conversation: Conversation, messages: Sequence[Message]) -> tuple[str, str]:
        """The generation prompt after some of the conversation's messages, and what the template writes then before an answer."""
        return opening(partial(self.text, conversation), messages)

    @cached_property
    def has_thinking_mode(self) -> bool:
        """Does an answer that thinks begin otherwise than one that does not, by an empty thought that is part of its prompt?"""
        user: list[Message] = [{"role": "user", "content": "probe_u"}]
        thinking: Message = {"role": "assistant", "content": "probe_a", THOUGHT: "probe_t"}
        talk = Conversation([*user, thinking])
        try:
            begun, more = self.opening(talk, user)
            whole = self.text(talk, talk.messages)
        except ConfigError:
            return False
        return bool(more) and whole.startswith(begun) and not whole.startswith(begun + more)

    def text(self, conversation: Conversation, messages: Sequence[Message], serving: bool = False) -> str:
        """What the chat template makes of some of the conversation's messages."""
        shown = [{key: m[key] for key in m if key != UNTRAINED} if UNTRAINED in m else m for m in messages]
        try:
            return as_written(self._writer.write(shown, conversation.tools, serving))
        except REFUSED as error:
            raise refused(messages, error) from error


def answers_of(conversation: Conversation, every: bool) -> list[int]:
    """The places of the messages that are trained: those of the assistant, or the last alone."""
    messages = conversation.messages
    if not every:
        return [len(messages) - 1]
    return [i for i, m in enumerate(messages) if m["role"] == "assistant" and UNTRAINED not in m]


Sequencer = Callable[[Conversation, bool], list[Texts]]


def _marked(call: Any, marks: list[str]) -> Any:
    """The call with a text of its own as its name and in place of each string of its arguments; these are added to `marks`."""

    def mark(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: mark(each) for key, each in value.items()}
        if isinstance(value, list):
            return [mark(each) for each in value]
        if isinstance(value, str):
            marks.append(f"probe_{len(marks)}_")
            return marks[-1]
        return value

    function = call["function"]
    return {**call, "function": {"name": mark(function["name"]), "arguments": mark(function["arguments"])}}


def _cut_at(text: str, spans: list[tuple[int, int]]) -> Texts:
    parts, place = [], 0
    for start, end in spans:
        parts += [text[place:start], text[start:end]]
        place = end
    return parts
