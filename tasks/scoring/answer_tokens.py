"""The tokens by which an answer is scored: words, numbers and symbols, the same for Chinese and English. Pure.

The scripts of SQuAD and ROUGE drop every character that is not a letter or digit, so that `-5` becomes `5`, and `C++` becomes `C`.
This tokeniser, like sacreBLEU's, keeps every character that changes the meaning of an answer.

* A number has its sign, its decimal point and its percent sign, and the numbers that a dash, `/`, `:` or `^` connects with it:
  `-5`, `3.14`, `50%`, `3/4`, `10:30`, `2024-01-02`, `2^5` (2⁵ is the same). Thousands separators are removed.
* A word has the symbols of its name: `C++`, `C#`, `a_b`, `v1.2.3`. A Chinese, Japanese or Korean character is a word.
* Any other symbol is a token: `+`, `=`, `$`, an emoji.
* Where the order matters, a pair is a token in addition to its two words: `x<3`, `a→b`, `km/h`, `node.js`, `user@host`; and a
  Chinese number of several characters, 五十. The brackets of a half-open interval are one token: `[1, 2)`.

Punctuation of prose, quotes, brackets in prose, Markdown's marks, and a dash that is no minus are removed: `well-known` is
two words.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import regex

from tasks.scoring.answer_text import CJK, fold, is_expression, without_markdown

_IN_WORD = rf"[^\W{CJK}]"
"""Chinese has no spaces: its characters end a name or a number as a space does, `用C++编写`, `约1e-5米`."""
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
"""In addition to Unicode's categories of symbols."""
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
    index = 1
    while index < len(items) - 1:
        item = items[index]
        if item.kind == "number":
            number, index = _number(items, index, has_factorials)
            tokens.append(number)
            continue
        if item.kind == "numeral":
            tokens += item.text
        tokens += _mark(items, index, has_factorials) if item.kind == "mark" else [item.text]
        index += 1
    return tokens + ["[)" if opened else "(]" for opened, _ in _HALF_OPEN.findall(folded)]


def is_number(token: str) -> bool:
    """Whether the token begins with a number or is a Chinese number."""
    return _NUMBER.match(token) is not None


def _items(folded: str) -> list[_Item]:
    """The words, numbers and marks of a text, between two empty items for its beginning and its end."""
    items = [_Item(match.lastgroup or "", match[0], *match.span()) for match in _ITEM.finditer(folded)]
    for item in items:
        if item.text == "**":
            item.text = "^"
    return [_Item("", "", -1, -1), *items, _Item("", "", -1, -1)]


def _number(items: list[_Item], index: int, has_factorials: bool) -> tuple[str, int]:
    """A number with everything connected to it, and the index after it."""
    number = ("-" if _has_sign(items, index) else "") + _digits(items[index])
    index += 1
    while _binds(items, index):
        number += items[index].text
        index += 1
        if items[index].text == "-":
            number += "-"
            index += 1
        number += _digits(items[index])
        index += 1
    if items[index].text in ("%", "‰"):
        return number + items[index].text, index + 1
    if has_factorials and items[index].text == "!" and _touch(items, index - 1):
        return number + "!", index + 1
    return number, index


def _digits(item: _Item) -> str:
    digits = item.text.replace(",", "")
    return f"0{digits}" if digits.startswith(".") else digits


def _binds(items: list[_Item], index: int) -> bool:
    """Whether the mark connects the numbers before and after it."""
    mark, after = items[index].text, items[index + 1 : index + 3]
    if mark in ("/", "^") and after and after[0].text == "-" and _touch(items, index + 1):
        return after[1].kind == "number"
    if not after or after[0].kind != "number":
        return False
    is_close = _touch(items, index - 1), _touch(items, index)
    return mark in ("/", "^") or (mark == ":" and all(is_close)) or (mark == "-" and (is_close[0] or not is_close[1]))


def _has_sign(items: list[_Item], index: int) -> bool:
    """Whether the number is negative, as in `-5`, `-$5` and `= -5`, not in `COVID-19`."""
    if _category(items[index - 1]) == "Sc" and _touch(items, index - 1):
        index -= 1
    if items[index - 1].text != "-" or not _touch(items, index - 1):
        return False
    before = items[index - 2]
    return not (_touch(items, index - 2) and (before.kind == "word" or _ends_value(before)))


def _mark(items: list[_Item], index: int, is_maths: bool) -> list[str]:
    """The tokens of a mark that is not part of a number or word: one, or none."""
    before, mark, after = items[index - 1], items[index].text, items[index + 1]
    is_behind, is_ahead = _touch(items, index - 1), _touch(items, index)
    pair = [before.text + mark + after.text]
    is_between = _ends_value(before) and _begins_value(after)
    if mark == "-" and after.kind == "number" and _has_sign(items, index + 1):
        return []  # it is part of the number
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
        return [mark] if before.text in _MATHS and items[index - 2].kind else []
    if mark in ")]":
        return [mark] if after.text in _MATHS else []
    if mark in ".@&" and is_behind and is_ahead and _is_word(before) and _is_word(after):
        return pair
    if mark in ".!":
        return [mark] if is_ahead and not is_behind and _is_word(after) else []
    return [mark] if mark[0] in _SYMBOLS or _category(items[index]) in ("Sm", "Sc", "So") else []


def _is_word(item: _Item) -> bool:
    return item.kind in ("word", "character", "numeral")


def _ends_value(item: _Item) -> bool:
    """Whether a value ends here, from which another can be subtracted: a number, a variable, a closing bracket."""
    return _begins_or_ends(item, ")]%")


def _begins_value(item: _Item) -> bool:
    return _begins_or_ends(item, "([")


def _begins_or_ends(item: _Item, marks: str) -> bool:
    if item.kind == "mark":
        return item.text in marks
    return item.kind == "number" or (item.kind == "word" and len(item.text) == 1)


def _touch(items: list[_Item], index: int) -> bool:
    """Whether there is no space between the item and the next."""
    return items[index].end == items[index + 1].start


def _category(item: _Item) -> str:
    return unicodedata.category(item.text[0]) if item.text else ""
