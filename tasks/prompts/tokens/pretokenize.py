"""Splits texts at spaces, as arrays: the words of thousands of texts at once, with their distinct words.

Byte-level tokenizers (GPT-2's, and those of Llama 3, Qwen, SmolLM) split a text by a pattern before they merge. All these patterns
end before a space that follows or precedes a non-space character: there a text may be split, and its parts tokenised separately.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_PATTERNS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
"""The patterns of Llama 3, Qwen 2 and 3, cl100k and GPT-2."""


Flags = npt.NDArray[np.bool_]
"""(256,) per byte value."""

_SPACE = 0x20
_ASCII_WHITE = (*range(0x09, 0x0E), *range(0x1C, 0x21))
_BEGINS_WHITE, _ENDS_WHITE = np.zeros(256, bool), np.zeros(256, bool)
"""The bytes that white space may start or end with in UTF-8; some other characters do as well. Between two such bytes a text is not
split at a space, which is always correct."""
_BEGINS_WHITE[[*_ASCII_WHITE, 0xC2, 0xE1, 0xE2, 0xE3]] = True
_ENDS_WHITE[[*_ASCII_WHITE, *range(0x80, 0x8B), 0x9F, 0xA0, 0xA8, 0xA9, 0xAF]] = True


@dataclass(frozen=True)
class Words:
    """The words of texts, concatenated; each with the space before it, except the first of a text."""

    distinct: list[str]
    numbers: npt.NDArray[np.int32]
    """(words,) index into `distinct`."""
    bounds: npt.NDArray[np.int64]
    """The first word of each text, and the end."""
    _starts: npt.NDArray[np.int32]
    """The first byte of each word, and the end."""
    _utf8: pa.Buffer

    def text(self, first: int, last: int) -> str:
        """The text of the words from `first` up to before `last`."""
        start, end = int(self._starts[first]), int(self._starts[last])
        return bytes(self._utf8.slice(start, end - start)).decode()


def split(texts: Sequence[str], ends_spaces: Flags) -> Words:
    """Splits texts before every space where `ends_of_spaces` allows it."""
    _, offsets, utf8 = pa.array(texts, pa.string()).buffers()
    edges = np.frombuffer(offsets, np.int32)[: len(texts) + 1]
    size = int(edges[-1])
    text = np.frombuffer(utf8, np.uint8)[:size]
    is_start = np.zeros(size + 1, bool)
    is_start[edges] = True
    spaces = np.flatnonzero(text == _SPACE)
    next_byte = spaces + 1
    is_blank = ends_spaces[text[np.minimum(next_byte, size - 1)]] | is_start[next_byte]  # or the end of its text
    is_blank &= _ENDS_WHITE[text[spaces - 1]]
    is_start[spaces[~is_blank]] = True
    starts = np.flatnonzero(is_start).astype(np.int32)
    words = pa.StringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), utf8).dictionary_encode()
    numbers = np.frombuffer(words.indices.buffers()[1], np.int32)[: len(words)]
    return Words(words.dictionary.to_pylist(), numbers, np.searchsorted(starts, edges), starts, utf8)


def ends_of_spaces(tokenizer: Any) -> Flags | None:
    """(256,) the bytes after a run of spaces before whose last space a text may not be split.

    None where texts may not be split at spaces at all, because normaliser, pattern or added tokens may span a split.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return None
    config = json.loads(fast.to_str())
    if (config["normalizer"] or {"type": "NFC"})["type"] != "NFC" or config["model"]["type"] != "BPE":
        return None
    for token in config["added_tokens"]:
        if " " in token["content"] or token["lstrip"] or token["rstrip"] or token["single_word"]:
            return None
    steps = config["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", []) if steps.get("type") == "Sequence" else [steps]
    if not steps or steps[-1].get("type") != "ByteLevel" or not all(_is_local(step, len(steps)) for step in steps):
        return None
    if not any(step["type"] == "Split" or (step["type"] == "ByteLevel" and step["use_regex"]) for step in steps):
        return None
    flags = _BEGINS_WHITE.copy()
    flags[[token["content"].encode()[0] for token in config["added_tokens"]]] = True  # texts are split there first
    if any(step["type"] == "Digits" for step in steps):  # and at digits, of any script
        flags[ord("0") : ord("9") + 1] = flags[0x80:] = True
    return flags


def _is_local(step: dict[str, Any], steps: int) -> bool:
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    if step["type"] == "Digits":
        return True
    pattern = step.get("pattern", {}).get("Regex")
    return step["type"] == "Split" and pattern in _PATTERNS and step["behavior"] == "Isolated" and not step["invert"]
