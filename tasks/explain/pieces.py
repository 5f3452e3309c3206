"""Tokens → the pieces of text that they stand for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.records.segmentation import word_spans

INCOMPLETE = "\ufffd"
MOST_TOKENS = 8
"""A character has at most 4 bytes; in some tokenizers, white space before it has a token of its own."""


@dataclass(frozen=True)
class Piece:
    text: str
    tokens: tuple[int, ...]
    """Their indices: a character may have several tokens."""


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> list[Piece]:
    """The text of each token, or of several tokens where one alone is part of a character. Together they are the decoded text."""

    def decode(indices: Sequence[int]) -> str:
        return str(tokenizer.decode([ids[index] for index in indices], clean_up_tokenization_spaces=False))

    pieces: list[Piece] = []
    before: list[int] = []
    pending: list[int] = []
    for index in range(len(ids)):
        pending.append(index)
        # a token alone may lose the space before it
        start, whole = decode(before), decode([*before, *pending])
        text = whole[len(start) :] if whole.startswith(start) else decode(pending)
        if text.endswith(INCOMPLETE) and len(pending) < MOST_TOKENS and index < len(ids) - 1:
            continue
        pieces.append(Piece(text, tuple(pending)))
        before, pending = pending, []
    return pieces


def in_words(pieces: Sequence[Piece]) -> list[Piece]:
    """The same with the pieces of one word as one piece; punctuation stays as it is."""
    text = "".join(piece.text for piece in pieces)
    word_at: dict[int, int] = {}
    for number, (start, end) in enumerate(word_spans(text)):
        word_at |= dict.fromkeys(range(start, end), number)
    words: list[Piece] = []
    position, last = 0, None
    for piece in pieces:
        first = position + len(piece.text) - len(piece.text.lstrip())
        word = word_at.get(first)
        if word is not None and word == last:
            words[-1] = Piece(words[-1].text + piece.text, words[-1].tokens + piece.tokens)
        else:
            words.append(piece)
        position, last = position + len(piece.text), word
    return words
