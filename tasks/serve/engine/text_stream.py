"""Tokens of an answer → its text in pieces, which together are what `answer_reader` reads.

stream = TextStream(TextDecoder(tokenizer), stop=("\\n\\n",))
stream.push(tokens)     # the next piece; "" while more tokens may still change it
stream.finish(tokens)   # the last piece

A piece is held back while it may still change: white space at the end, half of a character (most Chinese characters take several
tokens of bytes), and the beginning of a stop string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.base.generation import answer_decoder

TORN = "\ufffd"
"""What an incomplete character is decoded to."""
WINDOW_TOKENS = 64
"""So many tokens are decoded again for every further token, at least."""
OVERLAP_TOKENS = 8
CLEANED_CHARACTERS = 16
"""`clean_up_tokenization_spaces` of a tokenizer removes spaces before what follows: it may still change so many characters."""


class TextDecoder:
    """Decodes answers of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.decode = answer_decoder(tokenizer)
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        byte_tokens = {number for number, token in enumerate(tokens) if _is_byte(token)}
        special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.byte_tokens = frozenset(byte_tokens | special if byte_tokens else ())
        """Tokens of single bytes (SentencePiece): a run of them is one text, or all of it is torn. Special tokens,
        which are left out, do not end it."""
        cleans = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
        self.unsettled_characters = CLEANED_CHARACTERS if cleans else 0


class TextStream:
    """The text of one answer.

    Args:
        stop: strings that end the answer; they are not part of it.
    """

    def __init__(self, decoder: TextDecoder, stop: Sequence[str] = ()) -> None:
        self.decoder, self.stop = decoder, [text for text in stop if text]
        self.longest_stop = max(map(len, self.stop), default=0)
        self.is_stopped = False
        self.sent = ""
        """The pieces so far."""
        self._stop_index: int | None = None
        self._settled = (0, "")
        """The number of tokens that are never decoded again, and their text."""
        self._searched = 0

    def push(self, tokens: Sequence[int]) -> str:
        """The next piece.

        Args:
            tokens: of the answer so far.
        """
        text = self._decode(tokens[: self._without_bytes(tokens)])
        if self._cut(text):
            return self._rest(text)
        end = len(text.rstrip(TORN)) - self.decoder.unsettled_characters
        text = text[: max(0, end)]
        return self._next(text[: len(text) - self._beginning_of_stop(text)].strip())

    def finish(self, tokens: Sequence[int]) -> str:
        """The last piece of an answer that ends with these tokens."""
        return "" if self.is_stopped else self._rest(self._decode(tokens))

    def _rest(self, text: str) -> str:
        self._cut(text)
        return self._next((text if self._stop_index is None else text[: self._stop_index]).strip())

    def _cut(self, text: str) -> bool:
        """Looks for a stop string."""
        if self._stop_index is None and self.stop:
            begin = max(0, self._searched - self.longest_stop - CLEANED_CHARACTERS)
            indices = [index for each in self.stop if (index := text.find(each, begin)) >= 0]
            self._stop_index = min(indices, default=None)
            self.is_stopped = self._stop_index is not None
            self._searched = len(text)
        return self.is_stopped

    def _beginning_of_stop(self, text: str) -> int:
        """The number of characters at the end that may begin a stop string."""
        longest = min(self.longest_stop - 1, len(text))
        ends = (size for size in range(longest, 0, -1) if any(stop.startswith(text[-size:]) for stop in self.stop))
        return next(ends, 0)

    def _next(self, visible: str) -> str:
        piece = visible[len(self.sent) :]
        self.sent += piece
        return piece

    def _without_bytes(self, tokens: Sequence[int]) -> int:
        """The number of tokens without the run of byte tokens at the end."""
        count = len(tokens)
        while count and tokens[count - 1] in self.decoder.byte_tokens:
            count -= 1
        return count

    def _decode(self, tokens: Sequence[int]) -> str:
        """The text of all tokens. Only the last ones are decoded."""
        settled, head = self._settled
        text = head + self.decoder.decode(tokens[settled:])
        if len(tokens) - settled > WINDOW_TOKENS + OVERLAP_TOKENS and len(tokens) % OVERLAP_TOKENS == 0:
            self._settle(tokens, text)
        return text

    def _settle(self, tokens: Sequence[int], text: str) -> None:
        """Looks for a token before which the text can be divided: both parts are decoded to the same text as together."""
        settled, head = self._settled
        for place in range(len(tokens) - OVERLAP_TOKENS, len(tokens) - 2 * OVERLAP_TOKENS, -1):
            if tokens[place] in self.decoder.byte_tokens or self.decoder.unsettled_characters:
                continue
            tail = self.decoder.decode(tokens[place:])
            before = head + self.decoder.decode(tokens[settled:place])
            if tail and TORN not in (tail[0], before[-1:]) and before + tail == text:
                self._settled = (place, before)
                return


def _is_byte(token: str | None) -> bool:
    return token is not None and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
