"""A contract's regular expression, with one meaning: that of the library `regex` (Python's, where `\\w` knows Chinese).

RE2, in arrow, answers where it would say the same, which is most patterns and most texts; `regex` answers the rest, with a
bound on the time. RE2's `\\w`, `\\d`, `\\s` and `\\b` know ASCII alone, and its `$` does not pass over a last line break.
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
from tasks.runtime.bounded_regex import SLOW_FIX, compile_pattern, has_match, too_slow
from tasks.validate.measures.measure import Mask, fill_in, is_ascii, truths

_ELSEWHERE = regex.compile(r"\{,|\[\[|&&|\|\||--|~~|\\[NRXKhHRGmM]|\(\?[a-zA-Z]*[xUVbefr]|\(\?[>|&(+]|\\Q")
"""What RE2 reads otherwise, or not at all."""
_ASCII_ONLY = regex.compile(r"\\[wWdDsSbB]|\$|\(\?[a-zA-Z]*i|\\[pP]")
"""What RE2 reads the same way in ASCII texts alone (`\\p` after another edition of Unicode)."""
_ODD_ASCII = r"[\x0b\x1c-\x1f]|\n\z"
"""Texts in which `\\s` or `$` differ in ASCII too."""

Reader = Literal["re2", "re2_for_ascii", "regex"]


@dataclass(frozen=True)
class Pattern:
    text: str
    reader: Reader
    compiled: Any

    @staticmethod
    @cache
    def compile(text: str) -> Pattern:
        """Reads a pattern.

        Raises:
            ValueError: it is none.
        """
        compiled = compile_pattern(text)
        return Pattern(text, _reader_of(text), compiled)

    def is_found_in(self, texts: pa.Array) -> Mask:
        """For each text, does it hold a match anywhere?

        Raises:
            ConfigError: a text takes too long.
        """
        if self.reader == "re2":
            return truths(pc.match_substring_regex(texts, self.text))
        found = np.zeros(len(texts), dtype=np.bool_)
        rest = np.ones(len(texts), dtype=np.bool_)
        if self.reader == "re2_for_ascii":
            plain = is_ascii(texts) & ~truths(pc.match_substring_regex(texts, _ODD_ASCII))
            found[plain] = truths(pc.match_substring_regex(texts.filter(pa.array(plain)), self.text))
            rest = ~plain
        fill_in(found, rest, texts, self._search)
        return found

    def _search(self, text: str) -> bool:
        try:
            return has_match(self.compiled, text)
        except TimeoutError as error:  # no row is refused: a verdict may not depend on how busy a machine is
            what = f"the pattern `{self.text}` {too_slow(text)}"
            raise ConfigError(what, where="data/contract", fix=SLOW_FIX) from error


def _reader_of(text: str) -> Reader:
    try:
        pc.match_substring_regex(pa.array([""]), text)
    except pa.ArrowInvalid:
        return "regex"
    if _ELSEWHERE.search(text):
        return "regex"
    return "re2_for_ascii" if _ASCII_ONLY.search(text) else "re2"
