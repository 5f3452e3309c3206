"""Texts → token ids in bulk, the same as the tokenizer's own, each distinct word tokenised once.

Tokenisation is most of the work of rendering. Where the tokenizer allows it, texts are cut at spaces (pretokenize.py), their parts
are looked up in a table, and only new ones given to the tokenizer. Other tokenizers are given the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.render.tokens.pretokenize import Words, ends_of_spaces, split

Ids = npt.NDArray[np.int32]

MOST_TOKENS = 500_000
"""Tokens in the table, past which it is begun anew: some 30 MB with its words."""
NEAR = 32
"""Characters that a cut goes back to find a space."""
_ASKED_AS_ONE = 256
"""New words that the tokenizer is given as one text: a text a word takes it twice the time."""

_NOBODY_KNOWS = 2**40
"""Bytes that an unknown token stands for: no text has so many, so that where one comes up nothing is concluded."""


class WordTable:
    """Tokenises many texts at once with one tokenizer, without adding special tokens."""

    def __init__(self, tokenizer: Any, by_word: bool = True) -> None:
        self.tokenizer = tokenizer
        self._ends_spaces = ends_of_spaces(tokenizer) if by_word else None
        self.by_word = self._ends_spaces is not None
        self._begin()

    def _begin(self) -> None:
        self._known: dict[str, int] = {}
        self._tokens = np.zeros(0, np.int32)
        self._lengths = np.zeros(0, np.int64)
        self._starts = np.zeros(0, np.int64)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of each text."""
        if not texts:
            return []
        if not self.by_word:
            return [np.array(ids, np.int32) for ids in self._ask(list(texts))]
        words = self._split(texts)
        numbers = self._numbers(words)
        lengths = self._lengths[numbers]
        ends = np.cumsum(lengths)
        # each word's tokens lie in one piece of the table: where each token of the texts stands in it
        places = np.repeat(self._starts[numbers] - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
        flat = self._tokens[places]
        cuts = np.concatenate([[0], ends])[words.bounds].tolist()
        return [flat[cuts[i] : cuts[i + 1]] for i in range(len(texts))]

    def cut(self, texts: Sequence[str], tokens: Sequence[int]) -> list[str]:
        """The beginning of each text, without at least so many of its last tokens, cut at a space where one is near; "" where
        nothing is left."""
        if not self.by_word or not texts:
            return [self._cut_one(text, count) for text, count in zip(texts, tokens, strict=True)]
        words = self._split(texts)
        numbers = self._numbers(words)
        lengths = self._lengths[numbers]
        found = []
        for i, (text, count) in enumerate(zip(texts, tokens, strict=True)):
            first, last = int(words.bounds[i]), int(words.bounds[i + 1])
            ends = np.cumsum(lengths[first:last])
            kept = int(ends[-1]) - count if len(ends) else 0
            place = first + int(np.searchsorted(ends, kept, side="right"))
            # the first dropped token is in this word, and the space before it is near
            if kept > 0 and first < place < last and _is_plain(words.text(place, place + 1)):
                found.append(words.text(first, place).rstrip())
            else:
                found.append(self._cut_one(text, count))
        return found

    def _split(self, texts: Sequence[str]) -> Words:
        assert self._ends_spaces is not None
        return split(texts, self._ends_spaces)

    def _cut_one(self, text: str, tokens: int) -> str:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        kept = len(encoded["input_ids"]) - tokens
        if kept <= 0:
            return ""
        # where the first dropped token begins: a character may be several tokens, and goes as a whole
        end = min(encoded["offset_mapping"][kept][0], len(text) - 1)
        space = text.rfind(" ", max(0, end - NEAR), end + 1)
        return text[: space if space > 0 else end].rstrip()

    def _numbers(self, words: Words) -> npt.NDArray[np.int64]:
        """The words as numbers in the table."""
        if len(self._tokens) > MOST_TOKENS:
            self._begin()
        known = self._known
        numbers = list(map(known.get, words.distinct))
        if None in numbers:
            new = [word for word, number in zip(words.distinct, numbers, strict=True) if number is None]
            self._learn_joined([word for word in new if _is_joinable(word) and (self._keeps_all or word.isascii())])
            self._learn([word for word in new if word not in known])
            numbers = [
                known[word] if number is None else number for word, number in zip(words.distinct, numbers, strict=True)
            ]
        return np.array(numbers, np.int64)[words.numbers]

    def _learn_joined(self, words: list[str]) -> None:
        """Tokenises words that may follow one another, many as one text. Where each ends, is told by the bytes that each token
        stands for; where it cannot be told, they stay unknown."""
        asked = [words[first : first + _ASKED_AS_ONE] for first in range(0, len(words), _ASKED_AS_ONE)]
        for some, ids in zip(asked, self._ask(["".join(some) for some in asked]), strict=True):
            tokens = np.array(ids, np.int32)
            ends = np.cumsum([len(word.encode()) for word in some])
            reached = np.cumsum(self._bytes_of[tokens])
            last = np.flatnonzero(np.isin(reached, ends, assume_unique=True))
            if np.array_equal(reached[last], ends) and reached[-1] == ends[-1]:
                self._add(some, tokens, np.diff(last, prepend=-1))

    def _learn(self, words: list[str]) -> None:
        found = self._ask(words)
        tokens = np.fromiter(chain.from_iterable(found), np.int32)
        self._add(words, tokens, np.array([len(ids) for ids in found], np.int64))

    def _add(self, words: list[str], tokens: Ids, lengths: npt.NDArray[np.int64]) -> None:
        self._known.update(zip(words, range(len(self._known), len(self._known) + len(words)), strict=True))
        starts = len(self._tokens) + np.cumsum(lengths) - lengths
        self._tokens = np.concatenate([self._tokens, tokens])
        self._lengths, self._starts = np.append(self._lengths, lengths), np.append(self._starts, starts)

    @cached_property
    def _keeps_all(self) -> bool:
        """Are the tokens those of the very bytes of a text? A normaliser (NFC) may change what is not ASCII."""
        return self.tokenizer.backend_tokenizer.normalizer is None

    @cached_property
    def _bytes_of(self) -> npt.NDArray[np.int64]:
        """How many bytes each token stands for: as many as the characters that a byte-level tokenizer writes it with."""
        vocabulary = self.tokenizer.get_vocab()
        found = np.zeros(max(vocabulary.values()) + 1, np.int64)
        found[list(vocabulary.values())] = [len(token) for token in vocabulary]
        for number, token in self.tokenizer.added_tokens_decoder.items():
            found[number] = len(token.content.encode())
        unknown = vocabulary.get(self.tokenizer.backend_tokenizer.model.unk_token)
        if unknown is not None:
            found[unknown] = _NOBODY_KNOWS
        return found

    def _ask(self, texts: list[str]) -> list[list[int]]:
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            return ids
        fast.no_truncation()
        fast.no_padding()
        return [encoding.ids for encoding in fast.encode_batch_fast(texts, add_special_tokens=False)]


def _is_joinable(word: str) -> bool:
    """May the word follow, and be followed by, any other such?"""
    return word[0] == " " and not word[1:2].isspace() and not word[-1].isspace()


def _is_plain(word: str) -> bool:
    return len(word) <= NEAR and word[0] == " " and len(word) > 1 and " " not in word[1:]
