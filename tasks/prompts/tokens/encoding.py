"""Sequences of texts → sequences of token ids, in which every answer follows exactly the tokens of its served prompt.

A prompt is tokenised as a whole, as in serving. Where a sequence has several answers, the prompt tokens of each must be a prefix of
one token sequence; where they are not, each answer becomes a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from tasks.prompts.templates.chat_template import Texts
from tasks.prompts.tokens.word_cache import Ids

Pieces = list[Ids]
"""Alternately context and answer, as the texts."""


class Tokens(Protocol):
    """Tokenises many texts at once."""

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of each text."""


class Encoder:
    """Encodes sequences with one tokenizer."""

    def __init__(self, words: Tokens) -> None:
        self.words = words

    def encode(self, sequences: list[Texts]) -> list[list[tuple[str, Pieces]]]:
        """For each sequence its encoded sequences, usually one: the text before its last answer, and the token ids."""
        separate = self._separately(sequences) if self.is_additive else [None] * len(sequences)
        return [
            [("".join(texts[:-1]), pieces)] if pieces is not None else self._turn_by_turn(texts)
            for texts, pieces in zip(sequences, separate, strict=True)
        ]

    @cached_property
    def is_additive(self) -> bool:
        """Are the tokens of a text the concatenation of those of prompt and answer? Not if the tokenizer adds a leading space."""
        whole, first, second = self.words.encode(["x:\nAnn", "x:\n", "Ann"])
        return bool(np.array_equal(whole, np.concatenate([first, second])))

    def _separately(self, sequences: list[Texts]) -> list[Pieces | None]:
        """The pieces of each sequence, tokenised separately; None where they differ from the served tokens."""
        several = [i for i, texts in enumerate(sequences) if len(texts) > 2]
        encoded = self.words.encode(
            [text for texts in sequences for text in texts] + ["".join(sequences[i][:-1]) for i in several]
        )
        pieces_of: list[Pieces | None] = []
        position = 0
        for texts in sequences:
            pieces_of.append(encoded[position : position + len(texts)])
            position += len(texts)
        for i, served in zip(several, encoded[position:], strict=True):
            pieces = pieces_of[i]
            if pieces is not None and not np.array_equal(np.concatenate(pieces[:-1]), served):
                pieces_of[i] = None
        return pieces_of

    def _turn_by_turn(self, texts: Texts) -> list[tuple[str, Pieces]]:
        """Prompt and answer of each turn; as one sequence where each prompt starts with the previous prompt and its answer."""
        prompts = ["".join(texts[:position]) for position in range(1, len(texts), 2)]
        answers = texts[1::2]
        encoded = self.words.encode([*prompts, *(p + a for p, a in zip(prompts, answers, strict=True)), *answers])
        count = len(prompts)
        pairs: list[Pieces] = []
        for prompt, whole, alone in zip(encoded[:count], encoded[count : 2 * count], encoded[2 * count :], strict=True):
            continues = np.array_equal(whole[: len(prompt)], prompt)
            pairs.append([prompt, whole[len(prompt) :] if continues else alone])
        sequence: Pieces = list(pairs[0])
        for prompt, answer in pairs[1:]:
            before = np.concatenate(sequence)
            if not np.array_equal(prompt[: len(before)], before):
                return list(zip(prompts, pairs, strict=True))
            sequence += [prompt[len(before) :], answer]
        return [(prompts[-1], sequence)]
