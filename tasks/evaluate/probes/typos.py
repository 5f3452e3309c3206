"""Spelling mistakes: neighbours on the keyboard, swapped and missing letters; Chinese homophones, swapped characters. Pure."""

from __future__ import annotations

from random import Random

import regex

from tasks.evaluate.probes.fixed_text import Mask

WORD_SHARE, CHARACTER_SHARE = 0.1, 0.05
"""The shares of English words and of Chinese characters with a mistake; at least one in a text."""
_LETTERS = "qwertyuiopasdfghjklzxcvbnm"
_NEAR = (
    "wa qes wrd etf ryg tuh yij uok ipl ol qsz awdx sefc drgv fthb gyjn hukm jil kop asx zsdc xdfv cfgb vghn bhjm njk"
)
_NEIGHBOURS = dict(zip(_LETTERS, _NEAR.split(), strict=True))
_CONFUSED = (
    "的地得 在再 做作 像象 己已以 未末 账帐 候侯 即既 坐座 历厉 练炼 决绝 辨辩 副付 须需 带戴 份分 到道 型形 时是事 "
    "有又 和合 为位 会汇 中种 对队 要药 生声 可克 成城 方芳 发法 明名 闻文 话化 公工 司思 市式 动洞 问吻 题提 学雪 "
    "字自 经金 间见 后厚 请情 前钱 气汽 比笔 第弟 度渡 者着 意义 原元 园圆 记计 纪季 近进 京惊 理里 力立 利厘 李礼 "
    "良粮 领令 路录 论轮 马码 买卖 密蜜 面棉 民敏 目木 哪娜 年念 农浓 跑泡 平评 期其 旗棋 起岂 "
)
_HOMOPHONES: dict[str, str] = {}
for _group in _CONFUSED.split():
    for _character in _group:
        _HOMOPHONES.setdefault(_character, _group.replace(_character, ""))
_WORD = regex.compile(r"(?<![\p{Latin}'’-])[A-Za-z]{4,}(?![\p{Latin}'’-])")
_HAN = regex.compile(r"\p{Han}")


def add_typos(text: str, fixed: Mask, random: Random, *, keeps_length: bool = False) -> str | None:
    """The text with mistakes; None if it has no word that may have one.

    Args:
        fixed: the characters that must stay.
        keeps_length: no letter is missing: the target has positions in the text.
    """
    words = [match.span() for match in _WORD.finditer(text) if not any(fixed[match.start() : match.end()])]
    free = {match.start() for match in _HAN.finditer(text) if not fixed[match.start()]}
    characters = [
        (index, index + 1) for index in sorted(free) if text[index] in _HOMOPHONES or _can_swap(text, index, free)
    ]
    chosen = _sample(words, WORD_SHARE, random) + _sample(characters, CHARACTER_SHARE, random)
    changed, last = text, len(text)
    for start, end in sorted(chosen, reverse=True):
        if end > last:
            continue  # the character was swapped with the next
        if _HAN.match(text[start]):
            can_swap = start + 2 <= last and _can_swap(text, start, free)
            wrong, end = _wrong_character(text[start : start + 2], can_swap, random)
            end += start
        else:
            wrong = _wrong_word(text[start:end], random, keeps_length)
        changed, last = changed[:start] + wrong + changed[end:], start
    return None if changed == text else changed


def _can_swap(text: str, index: int, free: set[int]) -> bool:
    """Whether a Chinese character can change places with the next one."""
    return index + 1 in free and text[index] != text[index + 1]


def _sample(spans: list[tuple[int, int]], share: float, random: Random) -> list[tuple[int, int]]:
    return random.sample(spans, max(1, round(share * len(spans)))) if spans else []


def _wrong_word(word: str, random: Random, keeps_length: bool) -> str:
    """The word with one mistake, not in its first letter."""
    index = random.randrange(1, len(word) - 1)
    letter, after = word[index], word[index + 1]
    kind = random.choice(("neighbour", "swapped") if keeps_length else ("neighbour", "swapped", "missing"))
    if kind == "missing":
        return word[:index] + word[index + 1 :]
    if kind == "swapped" and letter != after:
        return word[:index] + after + letter + word[index + 2 :]
    near = random.choice(_NEIGHBOURS[letter.lower()])
    return word[:index] + (near.upper() if letter.isupper() else near) + word[index + 1 :]


def _wrong_character(piece: str, can_swap: bool, random: Random) -> tuple[str, int]:
    """A homophone or similar character instead of the first, or both swapped; and the number of characters replaced."""
    if near := _HOMOPHONES.get(piece[0]):
        return random.choice(near), 1
    return (piece[1] + piece[0], 2) if can_swap else (piece[0], 1)
