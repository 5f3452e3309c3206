"""Numbers in words, English and Chinese, as digits: `Twenty-five` is 25, 八千六百 is 8600, 1.5万 is 15000. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from math import prod

import regex

from tasks.scoring.answer_tokens import is_number

_UNITS = dict(zip("〇零一二两三四五六七八九", (0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10_000, "亿": 100_000_000}
_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_OF_TEN = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {
    **{word: str(number) for number, word in enumerate(_BELOW_TWENTY.split())},
    **{word: str(10 * tens) for tens, word in enumerate(_OF_TEN.split(), start=2)},
}
NUMERALS = frozenset((*_UNITS, *_TENS, *_MYRIADS))
"""Chinese characters that stand for numbers."""
_COMPOUND = regex.compile(
    rf"\b({'|'.join(_OF_TEN.split())})[- ]({'|'.join(_BELOW_TWENTY.split()[1:10])})\b", regex.IGNORECASE
)
_IN_MYRIADS = regex.compile(r"(?<![\d.,])(\d[\d,]*(?:\.\d+)?)([万亿]{1,2})")
_CHINESE_NUMBER = regex.compile(r"[〇零一二三四五六七八九十百千万亿两]{2,}")
_ADVERBS = frozenset(("万一", "一一", "千万"))
_PARTS = regex.compile(r"(?<=[\d%])[-/:^]")


def with_digits(text: str) -> str:
    """The text with numbers of several words or Chinese characters as digits."""
    text = _IN_MYRIADS.sub(_of_myriads, _COMPOUND.sub(_of_words, text))
    digits: str = _CHINESE_NUMBER.sub(_in_digits, text)
    return digits


def numbers_of(word: str) -> frozenset[str]:
    """The numbers of a token, normalised; none for a word."""
    if word in NUMBER_WORDS:
        return frozenset() if word == "one" else frozenset([NUMBER_WORDS[word]])
    if word in _UNITS and word != "一":
        return frozenset([str(_UNITS[word])])
    if word in _TENS:
        return frozenset([str(_TENS[word])])
    if not is_number(word) or not word.lstrip("-")[0].isascii():
        return frozenset()
    return frozenset(_normal(part.rstrip("%‰!")) for part in _PARTS.split(word))


def _normal(number: str) -> str:
    try:
        return f"{Decimal(number).normalize():f}"
    except InvalidOperation:
        return number


def _chinese_number(text: str) -> int | None:
    """The value of a Chinese number; None where it has another structure, as 三四."""
    if all(sign in _UNITS for sign in text):  # the digits of a year
        return int("".join(str(_UNITS[sign]) for sign in text)) if len(text) > 2 else _UNITS.get(text)
    total = section = 0
    digit: int | None = None
    for sign in text:
        if sign in _UNITS:
            digit = _UNITS[sign]
        elif sign in _TENS:
            section += (1 if digit is None else digit) * _TENS[sign]
            digit = None
        elif sign in _MYRIADS:
            total = (total + section + (digit or 0)) * _MYRIADS[sign]
            section, digit = 0, None
        else:
            return None
    return total + section + (digit or 0)


def _of_words(match: regex.Match[str]) -> str:
    """`Twenty-five` as 25."""
    return str(sum(int(NUMBER_WORDS[word.casefold()]) for word in match.groups()))


def _of_myriads(match: regex.Match[str]) -> str:
    """8,687亿 as 868700000000."""
    factor = Decimal(prod(_MYRIADS[sign] for sign in match[2]))
    return f"{(Decimal(match[1].replace(',', '')) * factor).normalize():f}"


def _in_digits(match: regex.Match[str]) -> str:
    value = None if match[0] in _ADVERBS else _chinese_number(match[0])
    return str(match[0]) if value is None else str(value)
