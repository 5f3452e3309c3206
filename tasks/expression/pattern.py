"""A contract's regular expression, with one meaning: that of the library `regex` (Python's, where `\\w` knows Chinese).

RE2, in arrow, matches where both libraries agree, which is most patterns and most texts; `regex` matches the rest, within a time
limit. RE2's `\\w`, `\\d`, `\\s` and `\\b` are ASCII only, and its `$` does not match before a last line break.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from tasks.errors import ConfigError
from tasks.expression.measure import Mask, fill_in, is_ascii, truths
from tasks.runtime.bounded_regex import SLOW_FIX, compile_pattern, has_match, too_slow

_NOT_RE2 = regex.compile(r"\{,|\[\[|&&|\|\||--|~~|\\[NRXKhHRGmM]|\(\?[a-zA-Z]*[xUVbefr]|\(\?[>|&(+]|\\Q")
"""Syntax that RE2 reads differently, or not at all."""
_ASCII_ONLY = regex.compile(r"\\[wWdDsSbB]|\$|\(\?[a-zA-Z]*i|\\[pP]")
"""Syntax that agrees in ASCII texts only (`\\p` follows another Unicode version)."""
_ODD_ASCII = r"[\x0b\x1c-\x1f]|\n\z"
"""ASCII texts in which `\\s` or `$` differ as well."""

Engine = Literal["re2", "re2_for_ascii", "regex"]


@dataclass(frozen=True)
class Pattern:
    text: str
    engine: Engine
    compiled: Any

    @staticmethod
    @cache
    def compile(text: str) -> Pattern:
        """Compiles a pattern.

        Raises:
            ValueError: it is not a regular expression.
        """
        compiled = compile_pattern(text)
        return Pattern(text, _engine_of(text), compiled)

    def matches(self, texts: pa.Array) -> Mask:
        """(texts,) does the text hold a match anywhere?

        Raises:
            ConfigError: a match exceeds the time limit.
        """
        if self.engine == "re2":
            return truths(pc.match_substring_regex(texts, self.text))
        mask = np.zeros(len(texts), dtype=np.bool_)
        rest = np.ones(len(texts), dtype=np.bool_)
        if self.engine == "re2_for_ascii":
            plain = is_ascii(texts) & ~truths(pc.match_substring_regex(texts, _ODD_ASCII))
            mask[plain] = truths(pc.match_substring_regex(texts.filter(pa.array(plain)), self.text))
            rest = ~plain
        fill_in(mask, rest, texts, self._search)
        return mask

    def _search(self, text: str) -> bool:
        try:
            return has_match(self.compiled, text)
        except TimeoutError as error:  # not a refused row: a verdict may not depend on the machine's load
            what = f"the pattern `{self.text}` {too_slow(text)}"
            raise ConfigError(what, where="data/contract", fix=SLOW_FIX) from error


def _engine_of(text: str) -> Engine:
    try:
        pc.match_substring_regex(pa.array([""]), text)
    except pa.ArrowInvalid:
        return "regex"
    if _NOT_RE2.search(text):
        return "regex"
    return "re2_for_ascii" if _ASCII_ONLY.search(text) else "re2"
