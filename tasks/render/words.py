"""Texts → token ids in bulk, the same as the tokenizer's own, each distinct word tokenised once.

Tokenisation is most of the work of rendering. Byte-level tokenizers (GPT-2's, and those of Llama 3, Qwen, SmolLM) cut the text by a
pattern before they merge, and all these patterns end before a space that follows a character, or that another character follows:
there a text may be cut, its parts looked up in a table, and only new ones given to the tokenizer. Other tokenizers are given the
whole text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Word = str | tuple[str]
"""A word with the space before it left out; in a tuple, the first of a text, which has none."""
Ids = npt.NDArray[np.int32]

MOST_TOKENS = 500_000
"""Tokens in the table, past which it is begun anew: some 30 MB with its words."""
NEAR = 32
"""Characters that a cut goes back to find a space."""
_CONTROL = re.compile("[\x0b-\x1f]")
_INNER = re.compile(r" (?<=\s )(?=\s|\Z)")
"""A space with white space on both sides, or at the end: the only ones at which a text may not be cut."""
_PATTERNS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
"""Those of Llama 3, Qwen 2 and 3, cl100k and GPT-2."""


class _Numbers(dict[Word, int]):
    """Numbers words as they are asked for."""

    def __init__(self) -> None:
        self.new: list[Word] = []

    def __missing__(self, word: Word) -> int:
        number = self[word] = len(self)
        self.new.append(word)
        return number


class WordTable:
    """Tokenises many texts at once with one tokenizer, without adding special tokens."""

    def __init__(self, tokenizer: Any, by_word: bool = True) -> None:
        self.tokenizer = tokenizer
        self.by_word = by_word and is_cut_at_spaces(tokenizer)
        self._known = _Numbers()
        self._tokens = np.zeros(0, np.int32)
        self._lengths = np.zeros(0, np.int64)
        self._starts = np.zeros(0, np.int64)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of each text."""
        if not texts:
            return []
        if not self.by_word:
            return [np.array(ids, np.int32) for ids in self._ask(list(texts))]
        numbers, bounds = self._numbers([_split(text) for text in texts])
        lengths = self._lengths[numbers]
        ends = np.cumsum(lengths)
        # each word's tokens lie in one piece of the table: where each token of the texts stands in it
        places = np.repeat(self._starts[numbers] - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
        flat = self._tokens[places]
        cuts = np.concatenate([[0], ends])[bounds]
        return [flat[cuts[i] : cuts[i + 1]] for i in range(len(texts))]

    def cut(self, texts: Sequence[str], tokens: Sequence[int]) -> list[str]:
        """The beginning of each text, without at least so many of its last tokens, cut at a space where one is near; "" where
        nothing is left."""
        if not self.by_word or not texts:
            return [self._cut_one(text, count) for text, count in zip(texts, tokens, strict=True)]
        split = [_split(text) for text in texts]
        numbers, bounds = self._numbers(split)
        lengths = self._lengths[numbers]
        found = []
        for i, (text, words, count) in enumerate(zip(texts, split, tokens, strict=True)):
            ends = np.cumsum(lengths[bounds[i] : bounds[i + 1]])
            kept = int(ends[-1]) - count
            place = int(np.searchsorted(ends, kept, side="right"))
            is_plain = 0 < place < len(words) and 0 < len(words[place]) < NEAR and " " not in words[place]
            is_plain = is_plain and (place > 1 or words[0] != "")  # not at the space that the text begins with
            if kept > 0 and is_plain:  # the first dropped token is in this word, and the space before it is near
                found.append(" ".join(words[:place]).rstrip())
            else:
                found.append(self._cut_one(text, count))
        return found

    def _cut_one(self, text: str, tokens: int) -> str:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        kept = len(encoded["input_ids"]) - tokens
        if kept <= 0:
            return ""
        # where the first dropped token begins: a character may be several tokens, and goes as a whole
        end = min(encoded["offset_mapping"][kept][0], len(text) - 1)
        space = text.rfind(" ", max(0, end - NEAR), end + 1)
        return text[: space if space > 0 else end].rstrip()

    def _numbers(self, split: list[list[str]]) -> tuple[npt.NDArray[np.int64], list[int]]:
        """The words of the split texts, one text after the other, as numbers in the table; where each text begins, and the end."""
        if len(self._tokens) > MOST_TOKENS:
            self.__init__(self.tokenizer, self.by_word)  # type: ignore[misc]
        words: list[Word] = []
        bounds = [0]
        for parts in split:
            words.append((parts[0],))  # no space stands before this one
            words += parts[1:]
            bounds.append(len(words))
        numbers = np.fromiter(map(self._known.__getitem__, words), np.int64, len(words))
        self._learn()
        return numbers, bounds

    def _learn(self) -> None:
        """Tokenises the words that were numbered last."""
        words, self._known.new = self._known.new, []
        if not words:
            return
        found = self._ask([word[0] if isinstance(word, tuple) else " " + word for word in words])
        lengths = np.array([len(ids) for ids in found], np.int64)
        starts = len(self._tokens) + np.cumsum(lengths) - lengths
        self._tokens = np.concatenate([self._tokens, np.array([i for ids in found for i in ids], np.int32)])
        self._lengths, self._starts = np.append(self._lengths, lengths), np.append(self._starts, starts)

    def _ask(self, texts: list[str]) -> list[list[int]]:
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            return ids
        fast.no_truncation()
        fast.no_padding()
        return [encoding.ids for encoding in fast.encode_batch_fast(texts, add_special_tokens=False)]


def _split(text: str) -> list[str]:
    """The text cut at every space that a cut may be before, without these spaces."""
    if not text.isascii() or "\t" in text or "\r" in text or _CONTROL.search(text):
        is_plain = _INNER.search(text) is None
    else:  # the same, faster
        is_plain = not (
            "   " in text or "\n  " in text or "  \n" in text or "\n \n" in text or text.endswith(("  ", "\n "))
        )
    parts = text.split(" ")
    return parts if is_plain else _rejoined(parts)


def _rejoined(parts: list[str]) -> list[str]:
    """Without the cuts at spaces that have white space, or an end of the text, on both sides."""
    last = parts[0]
    found = [last]
    for part in parts[1:]:
        if (part and not part[0].isspace()) or (last and not last[-1].isspace()):
            last = part
            found.append(part)
        else:
            last = found[-1] = f"{last} {part}"
    return found


def is_cut_at_spaces(tokenizer: Any) -> bool:
    """May a text be cut before a single space, and its parts be tokenised apart? Only where all that could reach over it is known
    not to: the normaliser, the pattern, and the added tokens."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return False
    told = json.loads(fast.to_str())
    if (told["normalizer"] or {"type": "NFC"})["type"] != "NFC" or told["model"]["type"] != "BPE":
        return False
    for token in told["added_tokens"]:
        if " " in token["content"] or token["lstrip"] or token["rstrip"] or token["single_word"]:
            return False
    steps = told["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", []) if steps.get("type") == "Sequence" else [steps]
    return bool(steps) and steps[-1].get("type") == "ByteLevel" and all(_is_local(step, len(steps)) for step in steps) and any(
        step["type"] == "Split" or (step["type"] == "ByteLevel" and step["use_regex"]) for step in steps
    )  # fmt: skip


def _is_local(step: dict[str, Any], steps: int) -> bool:
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    if step["type"] == "Digits":
        return True
    pattern = step.get("pattern", {}).get("Regex")
    return step["type"] == "Split" and pattern in _PATTERNS and step["behavior"] == "Isolated" and not step["invert"]
