"""Texts → token ids in bulk, identical to the tokenizer's, with every distinct word tokenised once.

Tokenisation is most of the cost of rendering. Where the tokenizer allows it, texts are split at spaces (pretokenize.py), and only
words that are not in the cache are tokenised. Other tokenizers get the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.prompts.tokens.pretokenize import Words, ends_of_spaces, split

Ids = npt.NDArray[np.int32]

MOST_TOKENS = 500_000
"""Tokens in the cache above which it is cleared: some 30 MB with its words."""
NEAR = 32
"""Characters before a cut that are searched for a space."""
_WORDS_PER_TEXT = 256
"""New words that are tokenised as one text: one text per word takes twice the time."""

_UNKNOWN_LENGTH = 2**40
"""Assumed bytes of an unknown token: more than any text has, so that the lengths never match."""


class WordTable:
    """Tokenises many texts at once with one tokenizer, without adding special tokens."""

    def __init__(self, tokenizer: Any, by_word: bool = True) -> None:
        self.tokenizer = tokenizer
        self._ends_spaces = ends_of_spaces(tokenizer) if by_word else None
        self.by_word = self._ends_spaces is not None
        self._clear()

    def _clear(self) -> None:
        self._number_of: dict[str, int] = {}
        self._tokens = np.zeros(0, np.int32)
        self._lengths = np.zeros(0, np.int64)
        self._starts = np.zeros(0, np.int64)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of each text."""
        if not texts:
            return []
        if not self.by_word:
            return [np.array(ids, np.int32) for ids in self._tokenize(list(texts))]
        words = self._split(texts)
        numbers = self._numbers(words)
        lengths = self._lengths[numbers]
        ends = np.cumsum(lengths)
        # a word's tokens are contiguous in the cache: the position in it of each token of the texts
        total = ends[-1] if len(ends) else 0
        positions = np.repeat(self._starts[numbers] - (ends - lengths), lengths) + np.arange(total)
        flatten = self._tokens[positions]
        cuts = np.concatenate([[0], ends])[words.bounds].tolist()
        return [flatten[cuts[i] : cuts[i + 1]] for i in range(len(texts))]

    def cut(self, texts: Sequence[str], tokens: Sequence[int]) -> list[str]:
        """The start of each text, without at least `tokens` of its last tokens, cut at a space where one is near; "" where nothing
        remains."""
        if not self.by_word or not texts:
            return [self._cut_one(text, count) for text, count in zip(texts, tokens, strict=True)]
        words = self._split(texts)
        numbers = self._numbers(words)
        lengths = self._lengths[numbers]
        prefixes = []
        for i, (text, count) in enumerate(zip(texts, tokens, strict=True)):
            first, last = int(words.bounds[i]), int(words.bounds[i + 1])
            ends = np.cumsum(lengths[first:last])
            kept = int(ends[-1]) - count if len(ends) else 0
            first_dropped = first + int(np.searchsorted(ends, kept, side="right"))
            # this word holds the first dropped token, and the space before it is near
            if kept > 0 and first < first_dropped < last and _is_plain(words.text(first_dropped, first_dropped + 1)):
                prefixes.append(words.text(first, first_dropped).rstrip())
            else:
                prefixes.append(self._cut_one(text, count))
        return prefixes

    def _split(self, texts: Sequence[str]) -> Words:
        assert self._ends_spaces is not None
        return split(texts, self._ends_spaces)

    def _cut_one(self, text: str, tokens: int) -> str:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        kept = len(encoded["input_ids"]) - tokens
        if kept <= 0:
            return ""
        # the start of the first dropped token: a character may have several tokens, and is dropped as a whole
        end = min(encoded["offset_mapping"][kept][0], len(text) - 1)
        space = text.rfind(" ", max(0, end - NEAR), end + 1)
        return text[: space if space > 0 else end].rstrip()

    def _numbers(self, words: Words) -> npt.NDArray[np.int64]:
        """(words,) the number of each word in the cache."""
        if len(self._tokens) > MOST_TOKENS:
            self._clear()
        number_of = self._number_of
        numbers = list(map(number_of.get, words.distinct))
        if None in numbers:
            new = [word for word, number in zip(words.distinct, numbers, strict=True) if number is None]
            self._add_joined([word for word in new if _is_joinable(word) and (self._keeps_bytes or word.isascii())])
            self._add_one_by_one([word for word in new if word not in number_of])
            numbers = list(map(number_of.get, words.distinct))
        return np.array(numbers, np.int64)[words.numbers]

    def _add_joined(self, words: list[str]) -> None:
        """Tokenises many words as one text and splits the tokens by their byte lengths. If the lengths do not match the words, the
        words are not added."""
        groups = [words[first : first + _WORDS_PER_TEXT] for first in range(0, len(words), _WORDS_PER_TEXT)]
        for group, ids in zip(groups, self._tokenize(["".join(group) for group in groups]), strict=True):
            tokens = np.array(ids, np.int32)
            ends = np.cumsum([len(word.encode()) for word in group])
            byte_ends = np.cumsum(self._bytes_of[tokens])
            last = np.flatnonzero(np.isin(byte_ends, ends, assume_unique=True))
            if np.array_equal(byte_ends[last], ends) and byte_ends[-1] == ends[-1]:
                self._add(group, tokens, np.diff(last, prepend=-1))

    def _add_one_by_one(self, words: list[str]) -> None:
        encoded = self._tokenize(words)
        tokens = np.fromiter(chain.from_iterable(encoded), np.int32)
        self._add(words, tokens, np.array([len(ids) for ids in encoded], np.int64))

    def _add(self, words: list[str], tokens: Ids, lengths: npt.NDArray[np.int64]) -> None:
        self._number_of.update(zip(words, range(len(self._number_of), len(self._number_of) + len(words)), strict=True))
        starts = len(self._tokens) + np.cumsum(lengths) - lengths
        self._tokens = np.concatenate([self._tokens, tokens])
        self._lengths, self._starts = np.append(self._lengths, lengths), np.append(self._starts, starts)

    @cached_property
    def _keeps_bytes(self) -> bool:
        """Do tokens encode the unchanged bytes of a text? A normaliser (NFC) may change non-ASCII text."""
        return self.tokenizer.backend_tokenizer.normalizer is None

    @cached_property
    def _bytes_of(self) -> npt.NDArray[np.int64]:
        """(vocabulary,) the bytes of each token: a byte-level tokenizer writes one character per byte."""
        vocabulary = self.tokenizer.get_vocab()
        lengths = np.zeros(max(vocabulary.values()) + 1, np.int64)
        lengths[list(vocabulary.values())] = [len(token) for token in vocabulary]
        for number, token in self.tokenizer.added_tokens_decoder.items():
            lengths[number] = len(token.content.encode())
        unknown = vocabulary.get(self.tokenizer.backend_tokenizer.model.unk_token)
        if unknown is not None:
            lengths[unknown] = _UNKNOWN_LENGTH
        return lengths

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            return ids
        fast.no_truncation()
        fast.no_padding()
        return [encoding.ids for encoding in fast.encode_batch_fast(texts, add_special_tokens=False)]


def _is_joinable(word: str) -> bool:
    """May the word be concatenated with any other such word?"""
    return word[0] == " " and not word[1:2].isspace() and not word[-1].isspace()


def _is_plain(word: str) -> bool:
    return len(word) <= NEAR and word[0] == " " and len(word) > 1 and " " not in word[1:]
