"""Turns → token ids of a prompt, as in training and in the evaluation of test rows.

prompts = Prompts(tokenizer)
ids = prompts.of_chat([{"role": "user", "content": "What is 6 times 7?"}])
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tasks.base.heads import begin_ids
from tasks.chat.markers import TypedMarkers, control_tokens
from tasks.chat.writing import REFUSED, ChatWriter, Message, opening, refused_error


class Prompts:
    """Prompts by one tokenizer.

    Args:
        thinks: the model was trained on answers with thoughts (`thinks_by_training`).
    """

    def __init__(self, tokenizer: Any, thinks: bool = False) -> None:
        self.tokenizer = tokenizer
        self.thinks = thinks
        self._writer = ChatWriter(tokenizer)
        self._markers = TypedMarkers(tokenizer, control_tokens(tokenizer, self._writer.around_user))

    def of_chat(self, messages: Sequence[Message]) -> list[int]:
        """The prompt of these messages, up to the start of the answer.

        Raises:
            ConfigError: the chat template rejects the turns.
        """
        turns = list(messages)
        has_markers = self._markers.are_in(message["content"] for message in turns)
        try:
            prompt, thought_start = opening(
                partial(self._writer.write, tools=None), self._markers.masked(turns) if has_markers else turns
            )
        except REFUSED as error:
            raise refused_error(turns, error) from error
        text = prompt if self.thinks else prompt + thought_start
        if has_markers:
            ids: list[int] = self._markers.encode([text])[0].tolist()
        else:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def of_text(self, text: str) -> list[int]:
        """The prompt to continue a text: the tokenizer's begin tokens and the text."""
        return [*begin_ids(self.tokenizer), *self._markers.encode_plain([text])[0].tolist()]
