"""Sequences of texts → sequences of token ids, such that every answer stands behind the very tokens that are served before it.

The prompt is tokenised as a whole, as it is when the model is served. Where a sequence has several answers, the tokens of what
comes before each must be a prefix of one and the same row of tokens; where they are not, each answer becomes a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from tasks.render.templates.chat_template import Texts
from tasks.render.tokens.word_cache import Ids

Pieces = list[Ids]
"""In turn context and answer, as the texts."""


class Tokens(Protocol):
    """What tokenises many texts at once."""

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of each text."""


class Encoder:
    """Encodes sequences with one tokenizer."""

    def __init__(self, words: Tokens) -> None:
        self.words = words

    def encode(self, sequences: list[Texts]) -> list[list[tuple[str, Pieces]]]:
        """For each sequence, what it becomes: the text before its last answer, and the token ids; usually one."""
        joined = self._joined(sequences) if self.is_additive else [None] * len(sequences)
        return [
            [("".join(texts[:-1]), pieces)] if pieces is not None else self._one_by_one(texts)
            for texts, pieces in zip(sequences, joined, strict=True)
        ]

    @cached_property
    def is_additive(self) -> bool:
        """Are a text's tokens those of its parts, where an answer begins? Not where the tokenizer sets a space before a text."""
        whole, first, second = self.words.encode(["x:\nAnn", "x:\n", "Ann"])
        return bool(np.array_equal(whole, np.concatenate([first, second])))

    def _joined(self, sequences: list[Texts]) -> list[Pieces | None]:
        """The pieces of each sequence, tokenised apart; None where they are not what is served."""
        several = [i for i, texts in enumerate(sequences) if len(texts) > 2]
        flat = self.words.encode(
            [text for texts in sequences for text in texts] + ["".join(sequences[i][:-1]) for i in several]
        )
        found: list[Pieces | None] = []
        place = 0
        for texts in sequences:
            found.append(flat[place : place + len(texts)])
            place += len(texts)
        for i, served in zip(several, flat[place:], strict=True):
            pieces = found[i]
            if pieces is not None and not np.array_equal(np.concatenate(pieces[:-1]), served):
                found[i] = None
        return found

    def _one_by_one(self, texts: Texts) -> list[tuple[str, Pieces]]:
        """Prompt and answer of each turn; as one sequence where each prompt begins with the last prompt and its answer."""
        prompts = ["".join(texts[:place]) for place in range(1, len(texts), 2)]
        answers = texts[1::2]
        encoded = self.words.encode([*prompts, *(p + a for p, a in zip(prompts, answers, strict=True)), *answers])
        count = len(prompts)
        pairs: list[Pieces] = []
        for prompt, whole, apart in zip(encoded[:count], encoded[count : 2 * count], encoded[2 * count :], strict=True):
            goes_on = np.array_equal(whole[: len(prompt)], prompt)
            pairs.append([prompt, whole[len(prompt) :] if goes_on else apart])
        one: Pieces = list(pairs[0])
        for prompt, answer in pairs[1:]:
            before = np.concatenate(one)
            if not np.array_equal(prompt[: len(before)], before):
                return list(zip(prompts, pairs, strict=True))
            one += [prompt[len(before) :], answer]
        return [(prompts[-1], one)]
