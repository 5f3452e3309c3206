"""Answers that satisfy a JSON schema: which tokens may come next, by llguidance."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from tasks.serve.engine.request import RequestRejected

ANY_OBJECT = '{"type": "object"}'
LOGS_NOTHING = 0
WHITE_SPACE = r"[ \n\r\t]{1,64}"
"""Between two parts of a JSON text. Without a limit, a model may write white space up to its last token."""


class Grammars:
    """Compiles schemas for one tokenizer.

    Args:
        words: the size of the model's vocabulary.
        ends: the tokens at which an answer ends.
    """

    def __init__(self, tokenizer: Any, words: int, ends: list[int]) -> None:
        from llguidance.hf import from_tokenizer

        self.tokenizer = from_tokenizer(tokenizer, n_vocab=max(words, len(tokenizer)), eos_token=ends)

    def constraint(self, schema: str) -> Constraint:
        """The constraint of one answer.

        Raises:
            RequestRejected: the schema cannot be compiled.
        """
        from llguidance import LLMatcher

        try:
            document = json.loads(schema)
            text = json.dumps(document) if document not in ({}, True) else ANY_OBJECT
            grammar = LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": WHITE_SPACE})
            matcher = LLMatcher(self.tokenizer, grammar, log_level=LOGS_NOTHING)
        except (ValueError, RecursionError) as error:
            raise _rejected(str(error)) from error
        if matcher.is_error():
            raise _rejected(matcher.get_error())
        return Constraint(matcher)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token, which may be a part of a character."""
        return bytes(self.tokenizer.decode_bytes([token]))


class Constraint:
    """What one answer may still be."""

    def __init__(self, matcher: Any) -> None:
        self.matcher = matcher

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores [vocabulary] with -infinity for each token that may not come next."""
        allowed = np.unpackbits(np.frombuffer(self.matcher.compute_bitmask(), np.uint8), bitorder="little")
        is_allowed = torch.zeros(scores.shape, dtype=torch.bool)
        count = min(len(allowed), len(is_allowed))
        is_allowed[:count] = torch.from_numpy(allowed[:count].astype(bool))
        return scores.masked_fill(~is_allowed, float("-inf"))

    def take(self, token: int) -> None:
        self.matcher.consume_token(token)

    @property
    def is_complete(self) -> bool:
        """Nothing but an end token may follow."""
        return bool(self.matcher.is_stopped())


def _rejected(reason: str) -> RequestRejected:
    lines = reason.strip().splitlines() or ["invalid"]
    return RequestRejected("invalid_schema", f"the JSON schema cannot be compiled: {lines[0][:300]}", "json_schema")
