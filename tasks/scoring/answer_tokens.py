"""The tokens by which an answer is scored: words, numbers and symbols, the same for Chinese and English. Pure.

The scripts of SQuAD and ROUGE drop every sign that is no letter or digit, so that `-5` becomes `5`, and `C++` becomes `C`.
SacreBLEU's tokeniser keeps them. So does this one: whatever changes the meaning of an answer is in a token.

* A number has its sign, its decimal point and its percent sign, and the numbers that a dash, `/`, `:` or `^` binds to it: `-5`,
  `3.14`, `50%`, `3/4`, `10:30`, `2024-01-02`, `2^5` (2⁵ is the same). Thousands' commas are left out.
* A word has what belongs to its name: `C++`, `C#`, `a_b`, `v1.2.3`. A Chinese, Japanese or Korean character is a word.
* Any other symbol is a token: `+`, `=`, `$`, an emoji.
* Where order counts, a pair is a token beside its two words: `x<3`, `a→b`, `km/h`, `node.js`, `user@host`; and a Chinese number
  of several characters, 五十. The brackets of a half-open interval are one: `[1, 2)`.

Punctuation of prose, quotes, brackets in prose, Markdown's marks, and a dash that is no minus are left out: `well-known` is
two words.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import regex

from tasks.scoring.answer_text import CJK, fold, is_expression, without_markdown

_IN_WORD = rf"[^\W{CJK}]"
"""Chinese sets no spaces: its characters end a name and a number as a space does, `用C++编写`, `约1e-5米`."""
_ITEM = regex.compile(
    rf"""
      (?P<number>(?!\d+[a-z]+\d|0[xob][0-9a-f]+(?!{_IN_WORD}))
        (?:\d{{1,3}}(?:,\d{{3}}){{1,9}}(?![,\d])|\d+|(?<!{_IN_WORD})(?=\.\d))(?:\.\d+)*(?:e[+-]?\d+(?!{_IN_WORD}))?)
    | (?P<numeral>[〇零一二三四五六七八九十百千万亿两]{{2,}})
    | (?P<character>[{CJK}])
    | (?P<word>(?<!_)_*[^\W_{CJK}]{_IN_WORD}*(?:'{_IN_WORD}+)*(?:(?<=\d)(?:\.\d+)+{_IN_WORD}*)?
        (?:(?<=(?<!{_IN_WORD}|')[a-z])'{{1,3}}(?=\s?[(=+*/^]))?
        (?:(?:\+\+\d*|\#|(?<=(?<!{_IN_WORD}){_IN_WORD})(?:--|\*)
          |(?<=(?<!{_IN_WORD}){_IN_WORD}{{1,2}})[+-](?!\s{{0,9}}(?:[\d(]|{_IN_WORD}(?!{_IN_WORD}))))(?!{_IN_WORD}|[*+-]))?)
    | (?P<mark>\*\*|--|°[a-z]?|[^\w\s])
    """,
    regex.VERSION1 | regex.VERBOSE,
)
_SYMBOLS = frozenset("%&@#§¶′″‰\\")
"""Beside those that Unicode calls symbols."""
_PAIRS = frozenset("<>≤≥\\/^÷←→⇐⇒")
_HALF_OPEN = regex.compile(r"(\[)[^][(),]{1,40},[^][(),]{1,40}\)|(\()[^][(),]{1,40},[^][(),]{1,40}\]")
_NUMBER = regex.compile(r"-?\d|[〇零一二三四五六七八九十百千万亿两]+\Z")
_MATHS = frozenset("+-*/^=<>≤≥≠×÷")


@dataclass
class _Item:
    kind: str
    text: str
    start: int
    end: int


def answer_tokens(text: str) -> list[str]:
    """The tokens of an answer, lower-cased, in order; none for a text of punctuation alone."""
    folded = without_markdown(fold(text))
    items = _items(folded)
    has_factorials = is_expression(folded)
    tokens: list[str] = []
    place = 1
    while place < len(items) - 1:
        item = items[place]
        if item.kind == "number":
            number, place = _number(items, place, has_factorials)
            tokens.append(number)
            continue
        if item.kind == "numeral":
            tokens += item.text
        tokens += _mark(items, place, has_factorials) if item.kind == "mark" else [item.text]
        place += 1
    return tokens + ["[)" if opened else "(]" for opened, _ in _HALF_OPEN.findall(folded)]


def is_number(token: str) -> bool:
    """Does the token begin with a number, or is it a Chinese one?"""
    return _NUMBER.match(token) is not None


def _items(folded: str) -> list[_Item]:
    """The words, numbers and marks of a text, between two items that stand for its beginning and its end."""
    found = [_Item(match.lastgroup or "", match[0], *match.span()) for match in _ITEM.finditer(folded)]
    for item in found:
        if item.text == "**":
            item.text = "^"
    return [_Item("", "", -1, -1), *found, _Item("", "", -1, -1)]


def _number(items: list[_Item], place: int, has_factorials: bool) -> tuple[str, int]:
    """A number with all that is bound to it, and the place behind it."""
    number = ("-" if _has_sign(items, place) else "") + _digits(items[place])
    place += 1
    while _binds(items, place):
        number += items[place].text
        place += 1
        if items[place].text == "-":
            number += "-"
            place += 1
        number += _digits(items[place])
        place += 1
    if items[place].text in ("%", "‰"):
        return number + items[place].text, place + 1
    if has_factorials and items[place].text == "!" and _touch(items, place - 1):
        return number + "!", place + 1
    return number, place


def _digits(item: _Item) -> str:
    digits = item.text.replace(",", "")
    return f"0{digits}" if digits.startswith(".") else digits


def _binds(items: list[_Item], place: int) -> bool:
    """Does the mark make one number of the two beside it?"""
    mark, after = items[place].text, items[place + 1 : place + 3]
    if mark in ("/", "^") and after and after[0].text == "-" and _touch(items, place + 1):
        return after[1].kind == "number"
    if not after or after[0].kind != "number":
        return False
    is_close = _touch(items, place - 1), _touch(items, place)
    return mark in ("/", "^") or (mark == ":" and all(is_close)) or (mark == "-" and (is_close[0] or not is_close[1]))


def _has_sign(items: list[_Item], place: int) -> bool:
    """Is the number negative? In `-5`, `-$5` and `= -5`; not in `COVID-19`."""
    if _category(items[place - 1]) == "Sc" and _touch(items, place - 1):
        place -= 1
    if items[place - 1].text != "-" or not _touch(items, place - 1):
        return False
    before = items[place - 2]
    return not (_touch(items, place - 2) and (before.kind == "word" or _ends_value(before)))


def _mark(items: list[_Item], place: int, is_maths: bool) -> list[str]:
    """The tokens of a mark that is in no number and no word: one, or none."""
    before, mark, after = items[place - 1], items[place].text, items[place + 1]
    is_behind, is_ahead = _touch(items, place - 1), _touch(items, place)
    pair = [before.text + mark + after.text]
    is_between = _ends_value(before) and _begins_value(after)
    if mark == "-" and after.kind == "number" and _has_sign(items, place + 1):
        return []  # it is in the number
    if (mark == "-" and is_between) or mark in _PAIRS:
        return pair
    if (
        mark == "-"
        and is_ahead
        and not _ends_value(before)
        and ((before.kind and before.text in _MATHS) or after.text in ("√", "∞") or (is_maths and after.text == "("))
    ):
        return [mark]  # of `-√2`, `x = -y`, `-(3 + 4)`
    if mark in ("-", "--"):
        is_option = is_ahead and not is_behind and after.kind == "word"
        return [mark] if is_option and (before.kind or mark == "--" or len(after.text) == 1) else []
    if mark == "*":
        return ["×"] if is_between else []
    if mark in "([":
        return [mark] if before.text in _MATHS and items[place - 2].kind else []
    if mark in ")]":
        return [mark] if after.text in _MATHS else []
    if mark in ".@&" and is_behind and is_ahead and _is_word(before) and _is_word(after):
        return pair
    if mark in ".!":
        return [mark] if is_ahead and not is_behind and _is_word(after) else []
    return [mark] if mark[0] in _SYMBOLS or _category(items[place]) in ("Sm", "Sc", "So") else []


def _is_word(item: _Item) -> bool:
    return item.kind in ("word", "character", "numeral")


def _ends_value(item: _Item) -> bool:
    """Can something be taken from it? From a number, a variable, and what brackets hold."""
    return _begins_or_ends(item, ")]%")


def _begins_value(item: _Item) -> bool:
    return _begins_or_ends(item, "([")


def _begins_or_ends(item: _Item, marks: str) -> bool:
    if item.kind == "mark":
        return item.text in marks
    return item.kind == "number" or (item.kind == "word" and len(item.text) == 1)


def _touch(items: list[_Item], place: int) -> bool:
    """Does the item end where the next begins?"""
    return items[place].end == items[place + 1].start


def _category(item: _Item) -> str:
    return unicodedata.category(item.text[0]) if item.text else ""
