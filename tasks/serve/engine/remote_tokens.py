"""The tokens of a server's chunks, and what is reported of them. Pure, apart from the tokenizer.

vLLM sends the ids of an answer's tokens (`return_token_ids`). Without them an answer is read from its text, in which special tokens
are written out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tasks.scoring.thoughts import THOUGHT_BEGINS, THOUGHT_ENDS
from tasks.serve.engine.request import EngineFailed, TokenLogprob
from tasks.serve.engine.text_stream import TORN, TextDecoder

TOKEN_ID = re.compile(r"token_id:(\d+)")
"""How vLLM writes a token with `return_tokens_as_token_ids`."""


class RemoteTokens:
    """The tokens of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.count = len(tokenizer)
        self.by_ids = TextDecoder(tokenizer)
        self.by_text = PieceDecoder(tokenizer)

    def ids_of(self, choice: Mapping[str, Any]) -> list[int] | None:
        """The ids in a choice of a chunk; None if the server sends none.

        Raises:
            EngineFailed: they are no tokens of this tokenizer.
        """
        ids = choice.get("token_ids")
        if ids is None:
            return None
        if not isinstance(ids, list) or not all(type(each) is int and 0 <= each < self.count for each in ids):
            raise EngineFailed("the server's tokens are not those of the version: it serves another model")
        return ids

    def logprobs_of(self, choice: Mapping[str, Any], top: int) -> list[TokenLogprob]:
        """The log probabilities in a choice, as the model computes them.

        Raises:
            EngineFailed: they have another form.
        """
        document = choice.get("logprobs") or {}
        tokens, values = document.get("tokens") or [], document.get("token_logprobs") or []
        alternatives = document.get("top_logprobs") or [{}] * len(tokens)
        try:
            rows = zip(tokens, values, alternatives, strict=True)
            return [self._logprob(token, float(value), best or {}, top) for token, value, best in rows]
        except (TypeError, ValueError, AttributeError) as error:
            raise EngineFailed("the server's log probabilities have another form") from error

    def _logprob(self, token: str, value: float, best: Mapping[str, float], top: int) -> TokenLogprob:
        content = self._content(token)
        pairs = sorted(best.items(), key=lambda pair: -pair[1])[:top]  # the server adds the chosen token to the best
        alternatives = tuple((_text(self._content(name)), float(each)) for name, each in pairs)
        return TokenLogprob(_text(content), tuple(content), value, alternatives)

    def _content(self, token: str) -> bytes:
        match = TOKEN_ID.fullmatch(token)
        return self.bytes_of(int(match[1])) if match else token.encode("utf-8", "replace")

    def bytes_of(self, number: int) -> bytes:
        """The bytes of a token, which may be a part of a character."""
        text = str(self.tokenizer.decode([number]))
        if TORN not in text:
            return text.encode("utf-8", "replace")
        name = str(self.tokenizer.convert_ids_to_tokens(number))
        if re.fullmatch(r"<0x[0-9A-F]{2}>", name):
            return bytes([int(name[3:5], 16)])
        if all(character in self._byte_characters for character in name):
            return bytes(self._byte_characters[character] for character in name)
        return text.encode("utf-8", "replace")

    @cached_property
    def _byte_characters(self) -> dict[str, int]:
        """The characters for which byte-level tokenizers write bytes."""
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        return {character: byte for byte, character in bytes_to_unicode().items()}


class PieceDecoder:
    """As TextDecoder, for an answer that arrives as pieces of text: special tokens are removed, but the tags of a thought stay."""

    def __init__(self, tokenizer: Any) -> None:
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = sorted(special - {THOUGHT_BEGINS, THOUGHT_ENDS}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self.byte_tokens: frozenset[Any] = frozenset()
        self.unsettled_characters = max(map(len, names), default=0)
        """The beginning of a special token may be in one piece, its end in the next."""

    def decode(self, pieces: Sequence[Any]) -> str:
        return self._special.sub("", "".join(pieces))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
