"""Upper or lower case of letters; full or half width of Chinese punctuation and of digits in Chinese text. Pure."""

from __future__ import annotations

from random import Random

import regex

from tasks.evaluate.probes.fixed_text import Mask

_HALF = dict(zip("，。！？：；（）", ",.!?:;()", strict=True))
_FULL = {half: full for full, half in _HALF.items() if half != "."}
_FULL_DIGITS = dict(zip("0123456789", "０１２３４５６７８９", strict=True))
_WITHIN_NUMBER = regex.compile(r"(?<=\d)\D(?=\d)")
_HAN = regex.compile(r"\p{Han}")


def change_case(text: str, fixed: Mask, random: Random) -> str | None:
    """The text in upper or in lower case, and Chinese punctuation and digits in the other width; None if this changes nothing."""
    is_upper = random.random() < 0.5
    letters = str.upper if is_upper else str.lower
    widths: dict[str, str] = {}
    if _HAN.search(text):
        widths = {**(_HALF if any(mark in text for mark in _HALF) else _FULL), **_FULL_DIGITS}

    def change(character: str) -> str:
        changed = widths.get(character) or letters(character)
        return changed if len(changed) == 1 else character  # ß has no upper case of one letter

    within_number = {match.start() for match in _WITHIN_NUMBER.finditer(text)}
    changed = "".join(
        character if fixed[index] or index in within_number else change(character)
        for index, character in enumerate(text)
    )
    return None if changed == text else changed
