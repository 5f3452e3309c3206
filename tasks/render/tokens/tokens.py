"""Rows → examples: token ids, and a mask over what is trained: the assistant's answers and their end tokens.

What is trained is what is served: a prompt is what the model's chat template writes up to where the assistant begins, an answer
what the template adds when the assistant has spoken. Rows are rendered many at a time; a row's result depends on that row alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.chat.markers import TypedMarkers, control_tokens
from tasks.render.templates.chat_template import ChatFormat, Texts, answers_of
from tasks.render.templates.chat_template_cache import QuickFormat
from tasks.render.templates.conversation import Conversation, make_conversation
from tasks.render.templates.templates import InstructionTemplate
from tasks.render.tokens.encoding import Encoder, Pieces
from tasks.render.tokens.truncate import drop_old_turns, shorten
from tasks.render.tokens.word_cache import Ids, WordTable

Choose = Callable[[Mapping[str, Any]], InstructionTemplate]


@dataclass(frozen=True)
class Example:
    """A row as tokens. A dialogue may become several, one an answer, where its chat template cannot say them in one."""

    row: Mapping[str, Any]
    """What it was rendered from."""
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
        found: list[int] = self.ids[: self.prompt_tokens].tolist()
        return found

    @property
    def answer_ids(self) -> list[int]:
        """The last answer and its end token."""
        found: list[int] = self.ids[self.prompt_tokens :].tolist()
        return found

    @property
    def spans(self) -> list[list[int]]:
        """The trained tokens, answer by answer, as far as something stands between them."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.mask, [0]]).astype(np.int8)))
        return [self.ids[first:last].tolist() for first, last in edges.reshape(-1, 2)]


@dataclass(frozen=True)
class Dropped:
    row_id: str
    reason: str
    """`answer_too_long`, `prompt_too_long` or `empty_answer`."""


class Renderer:
    """Renders rows with one tokenizer.

    Args:
        every: train on every turn of the assistant, not the last alone.
        is_quick: take the short ways of chat_template_cache.py and words.py; without, the same comes out, slowly.
    """

    def __init__(self, tokenizer: Any, max_length_tokens: int, every: bool = False, is_quick: bool = True) -> None:
        self.tokenizer = tokenizer
        self.max_length_tokens = max_length_tokens
        self.every = every
        self.chat = ChatFormat(tokenizer)
        self._quick = QuickFormat(self.chat) if is_quick else None
        self._words = WordTable(tokenizer, by_word=is_quick)
        self._encoder = Encoder(self._words)
        self._end_ids = frozenset(tokenizer.all_special_ids)
        self._markers = TypedMarkers(tokenizer, control_tokens(tokenizer, self.chat.around_user))
        self._typed_encoder = Encoder(self._markers)

    def render(self, rows: list[dict[str, Any]], choose: Choose, every: bool | None = None) -> list[Example | Dropped]:
        """Examples in the order of `rows`."""
        every = self.every if every is None else every
        templates = [choose(row) for row in rows]
        results: list[list[Example] | Dropped] = [[] for _ in rows]
        waiting = [(place, self._within_reach(row)) for place, row in enumerate(rows)]
        while waiting:
            current, too_long = waiting, []
            conversations = [self.chat.fitted(make_conversation(templates[place], row)) for place, row in current]
            for (place, row), conversation, sequences in zip(
                current, conversations, self._pieces(conversations, every), strict=True
            ):
                was_cut = row is not rows[place]
                blank = iter([self.chat.is_blank(conversation.messages[i]) for i in answers_of(conversation, every)])
                examples = [
                    self._example(rows[place], prompt, _trained(pieces, blank), conversation, templates[place], was_cut)
                    for prompt, pieces in sequences
                ]
                outcome = self._judge(examples)
                if isinstance(outcome, int):
                    too_long.append((place, row, outcome))
                else:
                    results[place] = outcome
            waiting = []
            shorter = shorten([row for _, row, _ in too_long], [tokens for *_, tokens in too_long], self._words)
            for (place, row, _), short in zip(too_long, shorter, strict=True):
                if short is None:
                    results[place] = Dropped(row["row_id"], "prompt_too_long")
                else:
                    waiting.append((place, short))
        return [one for result in results for one in (result if isinstance(result, list) else [result])]

    def _pieces(self, conversations: list[Conversation], every: bool) -> list[list[tuple[str, Pieces]]]:
        """Of each conversation: prompts, and token ids in turn of context and answer."""
        typed = set(self._typed(conversations))
        plain = [conversation for place, conversation in enumerate(conversations) if place not in typed]
        if self._quick is not None:
            sequences = self._quick.sequences(plain, every)
        else:
            sequences = [self.chat.sequences(conversation, every) for conversation in plain]
        encoded = iter(_encoded(self._encoder, sequences))
        return [
            self._pieces_of_typed(conversation, every) if place in typed else next(encoded)
            for place, conversation in enumerate(conversations)
        ]

    def _typed(self, conversations: list[Conversation]) -> list[int]:
        """The places of those in which somebody typed a control token: few, and rendered apart."""
        if not self._markers.are_in(text for conversation in conversations for text in _texts_of(conversation)):
            return []
        return [place for place, each in enumerate(conversations) if self._markers.are_in(_texts_of(each))]

    def _pieces_of_typed(self, conversation: Conversation, every: bool) -> list[tuple[str, Pieces]]:
        masked = replace(
            conversation,
            messages=self._markers.masked(conversation.messages),
            tools=self._markers.masked(conversation.tools),
        )
        (pairs,) = _encoded(self._typed_encoder, [self.chat.sequences(masked, every)])
        return [(self._markers.restored(prompt), pieces) for prompt, pieces in pairs]

    def _example(
        self,
        row: dict[str, Any],
        prompt: str,
        trained: list[tuple[Ids, bool]],
        conversation: Conversation,
        template: InstructionTemplate,
        was_cut: bool,
    ) -> Example:
        pieces = [piece for piece, _ in trained]
        # the end token is trained, or replies never stop
        if len(pieces[-1]) and int(pieces[-1][-1]) not in self._end_ids:
            pieces[-1] = np.append(pieces[-1], np.int32(self.tokenizer.eos_token_id))
        lengths = [len(piece) for piece in pieces]
        mask = np.zeros(sum(lengths), np.uint8)
        place = 0
        for (_, is_trained), length in zip(trained, lengths, strict=True):
            if is_trained:
                mask[place : place + length] = 1
            place += length
        ids = np.concatenate(pieces).astype(np.int32, copy=False)
        return Example(row, prompt, ids, mask, place - lengths[-1], conversation, template, was_cut)

    def _judge(self, examples: list[Example]) -> list[Example] | Dropped | int:
        """The examples as they are, the reason to drop the row, or how many tokens too long it is."""
        last = examples[-1]
        answer_tokens = len(last) - last.prompt_tokens
        longest = max(len(example) for example in examples)
        if answer_tokens < 2 or self.chat.is_blank(last.conversation.messages[-1]):
            return Dropped(last.row_id, "empty_answer")
        if answer_tokens >= self.max_length_tokens:
            return Dropped(last.row_id, "answer_too_long")
        return examples if longest <= self.max_length_tokens else longest - self.max_length_tokens

    def _within_reach(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row without the oldest turns that cannot fit, whatever the chat template writes around them."""
        return row if row["history"].count("[") <= 32 else drop_old_turns(row, self.max_length_tokens, self._words)


def _trained(pieces: Pieces, blank: Iterator[bool]) -> list[tuple[Ids, bool]]:
    """Each piece, and whether it is trained: every second one, but for answers in which nothing is."""
    return [(piece, bool(number % 2) and not next(blank)) for number, piece in enumerate(pieces)]


def _encoded(encoder: Encoder, sequences: list[list[Texts]]) -> list[list[tuple[str, Pieces]]]:
    encoded = iter(encoder.encode([texts for several in sequences for texts in several]))
    return [[pair for _ in several for pair in next(encoded)] for several in sequences]


def _texts_of(conversation: Conversation) -> Iterator[str]:
    """All that stands in a conversation and was not written by a chat template."""
    for message in conversation.messages:
        yield message["content"]
        if len(message) > 2:
            yield json.dumps(message, ensure_ascii=False, default=str)
    if conversation.tools:
        yield json.dumps(conversation.tools, ensure_ascii=False, default=str)
