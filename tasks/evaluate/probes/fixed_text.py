"""The parts of a prompt that a perturbation must keep, so that the target stays the right answer. Pure.

These are numbers, negations, code, JSON, addresses, the labels of a classification, and text that the target has too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import regex

_FIXED = regex.compile(
    r"""
      ```.*?(?:```|\Z) | `[^`\n]*` | \$[^$\n]+\$ | https?://\S+ | www\.\S+ | \S+@\S+\.\S+ | </?[\w|.-]+> | \{[^{}]*\} | \[[^][]*\]
    | "[^"\n]{1,80}"\s*:
    | ^[ \t]*(?:def|class|import|from\ \w+\ import|return|\#include|SELECT|public|const|var|let)\b[^\n]* | ^[^\n]*[;{}][ \t]*$
    | [A-Za-z_][A-Za-z0-9_.]*\([^()\n]*\)
    | [A-Za-z_]*\d[A-Za-z0-9_.,:/%-]*
    """,
    regex.DOTALL | regex.MULTILINE | regex.VERBOSE,
)
_KEPT = (
    "not never none without neither nothing nobody cannot except unless true false three four five seven eight nine "
    "eleven twelve hundred thousand million billion dozen json"
)
_KEPT_WORDS = frozenset(_KEPT.split())
_KEPT_CHINESE = frozenset("不没無无非未别莫勿否〇零一二三四五六七八九十百千万亿两几半")
_LETTERS = r"(?:(?!\p{Han})[\p{L}\p{M}])"
"""Of words; Chinese characters are compared in pairs. `Paris北京` is a word and a pair."""
_WORD = regex.compile(rf"(?:{_LETTERS}|['’-])+")
_CHINESE = regex.compile(r"\p{Han}")
Mask = bytearray
"""1 at each character that must stay."""


def fixed_characters(text: str, target: str, labels: Collection[str] = (), *, with_numbers: bool = True) -> Mask:
    """The characters that a perturbation must keep.

    Args:
        labels: the labels of the family, if it is a classification.
        with_numbers: keep numbers and negations too; without it, only those of the target.
    """
    mask = Mask(len(text))
    for start, end in _fixed_spans(text, target, labels, with_numbers):
        mask[start:end] = b"\x01" * (end - start)
    return mask


def _fixed_spans(text: str, target: str, labels: Collection[str], with_numbers: bool) -> Iterator[tuple[int, int]]:
    folded = text.lower()
    is_same_length = len(folded) == len(text)  # not of İ
    of_target = set(regex.findall(rf"{_LETTERS}+|\d+", target.lower()))
    for match in _FIXED.finditer(text):
        if with_numbers or not match[0].isdigit():
            yield match.span()
    for match in _WORD.finditer(text):
        parts = regex.findall(rf"{_LETTERS}+", match[0].lower())
        if any(part in of_target or part in _KEPT_WORDS for part in parts):
            yield match.span()
    for match in regex.finditer(r"\d+", text):
        if match[0] in of_target:
            yield match.span()
    for label in {*labels, *(label.replace("_", " ") for label in labels)} if is_same_length else ():
        start = folded.find(label.lower()) if label.strip() else -1
        while start >= 0:
            yield start, start + len(label)
            start = folded.find(label.lower(), start + len(label))
    for index, character in enumerate(text):
        if _CHINESE.match(character):
            pair, is_copied = text[index : index + 2], character in target and len(target) == 1
            if is_copied or (with_numbers and character in _KEPT_CHINESE):
                yield index, index + 1
            if len(pair) == 2 and pair in target:
                yield index, index + 2
