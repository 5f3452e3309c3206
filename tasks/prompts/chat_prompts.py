"""Turns → token ids of a prompt, as in training and in the evaluation of test rows.

prompts = Prompts(tokenizer)
ids = prompts.of_chat([{"role": "user", "content": "What is 6 times 7?"}])
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.chat.markers import TypedMarkers, control_tokens
from tasks.prompts.templates.chat_template import ChatFormat
from tasks.prompts.templates.conversation import Conversation, Message
from tasks.prompts.tokens.word_cache import WordTable
from tasks.records.languages import language_of_last_turn, row_language


@dataclass(frozen=True)
class Prompt:
    text: str
    ids: list[int]


class Prompts:
    """Prompts by one tokenizer. `Renderer` uses the same chat template and control tokens for rows.

    Args:
        thinks: the model was trained on answers with thoughts (`thinks_by_training`).
    """

    def __init__(self, tokenizer: Any, thinks: bool = False) -> None:
        self.tokenizer = tokenizer
        self.thinks = thinks
        self.chat = ChatFormat(tokenizer)
        self.markers = TypedMarkers(tokenizer, control_tokens(tokenizer, self.chat.writer.around_user))
        self._words = WordTable(tokenizer, by_word=False)

    def of_chat(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The prompt of these messages, up to the start of the answer. As in training, a system turn is put before the first user
        turn, and tools and calls are text, where the chat template does not support them.

        Args:
            messages: as chat templates get them: the arguments of a call are an object.
            tools: in OpenAI's form.

        Raises:
            ConfigError: the chat template rejects the turns.
        """
        return self.chat_prompt(messages, tools).ids

    def chat_prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> Prompt:
        """As `of_chat`, with its text."""
        language = _language_of(messages) if tools else "en"  # of the text that lists the tools
        context = Conversation(list(messages), tuple(tools), language)
        return self.of_context(self.chat.adapt_context(context))

    def of_context(self, context: Conversation, thinks: bool | None = None) -> Prompt:
        """The prompt of an adapted conversation (`ChatFormat.adapt_context`) without its answer.

        Args:
            thinks: whether the answer may begin with a thought; None: as most answers in training.

        Raises:
            ConfigError: the chat template rejects the turns.
        """
        has_markers = self.markers.are_in(context.texts())
        shown = self.masked(context) if has_markers else context
        generation_prompt, empty_thought = self.chat.opening(shown, shown.messages)
        is_thinking = self.thinks if thinks is None else thinks
        text = generation_prompt if is_thinking else generation_prompt + empty_thought
        (ids,) = self.markers.encode([text]) if has_markers else self._words.encode([text])
        return Prompt(self.markers.restored(text) if has_markers else text, ids.tolist())

    def masked(self, conversation: Conversation) -> Conversation:
        """The conversation with masks in place of typed control tokens."""
        messages, tools = self.markers.masked(conversation.messages), self.markers.masked(conversation.tools)
        return replace(conversation, messages=messages, tools=tools)

    def of_text(self, text: str) -> list[int]:
        """The prompt to continue a text: the tokenizer's begin tokens and the text."""
        from tasks.base.heads import begin_ids  # torch, which rendering does not need in memory

        return [*begin_ids(self.tokenizer), *self.markers.encode_plain([text])[0].tolist()]


def _language_of(messages: Sequence[Message]) -> str:
    turns = [[message["role"], message["content"]] for message in messages if message["role"] == "user"]
    fields = {"history": json.dumps([*turns, ["assistant", ""]]), "instruction": "", "input": "", "output": ""}
    return language_of_last_turn(fields | {"language": row_language(fields)})
