"""Rows → examples: token ids and a loss mask, which covers the assistant's answers and their end tokens.

Training and serving have the same prompt: the text of the chat template up to the assistant's turn; an answer is the text that the
template adds for the assistant's message. Rows are rendered in batches; a row's result depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.prompts.chat_prompts import Prompts
from tasks.prompts.templates.chat_template import Texts, answers_of
from tasks.prompts.templates.chat_template_cache import ChatTemplateCache
from tasks.prompts.templates.conversation import Conversation, make_conversation
from tasks.prompts.templates.templates import InstructionTemplate
from tasks.prompts.tokens.encoding import Encoder, Pieces
from tasks.prompts.tokens.truncate import drop_old_turns, shorten
from tasks.prompts.tokens.word_cache import Ids, WordTable

Choose = Callable[[Mapping[str, Any]], InstructionTemplate]


@dataclass(frozen=True)
class Example:
    """A row as tokens. A dialogue may become several examples, one per answer, where its chat template cannot write it as one."""

    row: Mapping[str, Any]
    """The row that it was rendered from."""
    fitted: Mapping[str, Any]
    """The same without what was truncated."""
    prompt: str
    """The text before the last answer."""
    ids: Ids
    mask: npt.NDArray[np.uint8]
    """1 where the token is trained: part of an answer, or its end token."""
    prompt_tokens: int
    """Tokens before the last answer."""
    conversation: Conversation
    template: InstructionTemplate
    was_cut: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def row_id(self) -> str:
        return str(self.row["row_id"])

    @property
    def prompt_ids(self) -> list[int]:
        ids: list[int] = self.ids[: self.prompt_tokens].tolist()
        return ids

    @property
    def answer_ids(self) -> list[int]:
        """The last answer and its end token."""
        ids: list[int] = self.ids[self.prompt_tokens :].tolist()
        return ids


@dataclass(frozen=True)
class Dropped:
    row_id: str
    reason: str
    """`answer_too_long`, `prompt_too_long` or `empty_answer`."""


class Renderer:
    """Renders rows with one tokenizer.

    Args:
        all_turns: train on every turn of the assistant, not only on the last.
        uses_caches: use chat_template_cache.py and word_cache.py; without them the result is the same, but slower.
    """

    def __init__(
        self, tokenizer: Any, max_length_tokens: int, all_turns: bool = False, uses_caches: bool = True
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length_tokens = max_length_tokens
        self.all_turns = all_turns
        self._prompts = Prompts(tokenizer)
        self.chat = self._prompts.chat
        self._chat_cache = ChatTemplateCache(self.chat) if uses_caches else None
        self._words = WordTable(tokenizer, by_word=uses_caches)
        self._encoder = Encoder(self._words)
        self._end_ids = frozenset(tokenizer.all_special_ids)
        self._markers = self._prompts.markers
        self._marker_encoder = Encoder(self._markers)

    def render(
        self, rows: list[dict[str, Any]], choose: Choose, all_turns: bool | None = None
    ) -> list[Example | Dropped]:
        """The examples, in the order of `rows`."""
        all_turns = self.all_turns if all_turns is None else all_turns
        templates = [choose(row) for row in rows]
        results: list[list[Example] | Dropped] = [[] for _ in rows]
        pending = [(index, self._without_distant_turns(row)) for index, row in enumerate(rows)]
        while pending:
            batch, too_long = pending, []
            conversations = [self.chat.adapt(make_conversation(templates[index], row)) for index, row in batch]
            for (index, row), conversation, sequences in zip(
                batch, conversations, self._pieces(conversations, all_turns), strict=True
            ):
                answers = (conversation.messages[i] for i in answers_of(conversation, all_turns))
                is_blank = map(self.chat.is_blank, answers)
                examples = [
                    self._example(rows[index], row, prompt, _trained(pieces, is_blank), conversation, templates[index])
                    for prompt, pieces in sequences
                ]
                result = self._check_length(examples)
                if isinstance(result, int):
                    too_long.append((index, row, result))
                else:
                    results[index] = result
            pending = []
            shortened = shorten([row for _, row, _ in too_long], [tokens for *_, tokens in too_long], self._words)
            for (index, row, _), shortened_row in zip(too_long, shortened, strict=True):
                if shortened_row is None:
                    results[index] = Dropped(row["row_id"], "prompt_too_long")
                else:
                    pending.append((index, shortened_row))
        return [item for result in results for item in (result if isinstance(result, list) else [result])]

    def _pieces(self, conversations: list[Conversation], all_turns: bool) -> list[list[tuple[str, Pieces]]]:
        """For each conversation: prompts, and token ids, alternately of context and answer."""
        with_control_tokens = set(self._with_control_tokens(conversations))
        plain = [conversation for index, conversation in enumerate(conversations) if index not in with_control_tokens]
        if self._chat_cache is not None:
            sequences = self._chat_cache.sequences(plain, all_turns)
        else:
            sequences = [self.chat.sequences(conversation, all_turns) for conversation in plain]
        encoded = iter(_encoded(self._encoder, sequences))
        return [
            self._pieces_with_control_tokens(conversation, all_turns) if index in with_control_tokens else next(encoded)
            for index, conversation in enumerate(conversations)
        ]

    def _with_control_tokens(self, conversations: list[Conversation]) -> list[int]:
        """The indices of the conversations with a control token in their texts: few, and rendered separately."""
        if not self._markers.are_in(text for conversation in conversations for text in conversation.texts()):
            return []
        return [index for index, conversation in enumerate(conversations) if self._markers.are_in(conversation.texts())]

    def _pieces_with_control_tokens(self, conversation: Conversation, all_turns: bool) -> list[tuple[str, Pieces]]:
        sequences = self.chat.sequences(self._prompts.masked(conversation), all_turns)
        (pairs,) = _encoded(self._marker_encoder, [sequences])
        return [(self._markers.restored(prompt), pieces) for prompt, pieces in pairs]

    def _example(
        self,
        row: dict[str, Any],
        fitted: dict[str, Any],
        prompt: str,
        trained: list[tuple[Ids, bool]],
        conversation: Conversation,
        template: InstructionTemplate,
    ) -> Example:
        pieces = [piece for piece, _ in trained]
        # the end token is trained, or generation never stops
        if len(pieces[-1]) and int(pieces[-1][-1]) not in self._end_ids:
            pieces[-1] = np.append(pieces[-1], np.int32(self.tokenizer.eos_token_id))
        mask = np.repeat(np.array([is_trained for _, is_trained in trained], np.uint8), list(map(len, pieces)))
        ids = np.concatenate(pieces).astype(np.int32, copy=False)
        prompt_tokens = len(ids) - len(pieces[-1])
        return Example(row, fitted, prompt, ids, mask, prompt_tokens, conversation, template, fitted is not row)

    def _check_length(self, examples: list[Example]) -> list[Example] | Dropped | int:
        """The examples, the reason to drop the row, or the number of tokens by which it is too long."""
        last = examples[-1]
        answer_tokens = len(last) - last.prompt_tokens
        longest = max(len(example) for example in examples)
        if answer_tokens < 2 or self.chat.is_blank(last.conversation.messages[-1]):
            return Dropped(last.row_id, "empty_answer")
        if answer_tokens >= self.max_length_tokens:
            return Dropped(last.row_id, "answer_too_long")
        return examples if longest <= self.max_length_tokens else longest - self.max_length_tokens

    def _without_distant_turns(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row without the oldest turns that cannot fit, whatever text the chat template adds."""
        return row if row["history"].count("[") <= 32 else drop_old_turns(row, self.max_length_tokens, self._words)


def _trained(pieces: Pieces, is_blank: Iterator[bool]) -> list[tuple[Ids, bool]]:
    """Each piece, and whether it is trained: every second one, except empty answers."""
    return [(piece, bool(number % 2) and not next(is_blank)) for number, piece in enumerate(pieces)]


def _encoded(encoder: Encoder, sequences: list[list[Texts]]) -> list[list[tuple[str, Pieces]]]:
    encoded = iter(encoder.encode([texts for texts_of_row in sequences for texts in texts_of_row]))
    return [[pair for _ in texts_of_row for pair in next(encoded)] for texts_of_row in sequences]
