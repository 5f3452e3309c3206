"""Statistics of a row's text: repetition, symbols, length, refusals, toxic words. Pure.

    measure({"instruction": "Say it.", "input": "", "output": "As an AI language model, I cannot."}).is_refusal  # True

Tokens approximate those of tasks/records/segmentation.py, counted faster: without NFKC, and Chinese by character.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.scoring.refusals import REFUSAL_HINTS, REFUSAL_MARKS, declines_in_chinese, declines_in_english

# a small list: words that are an insult or a slur in nearly every context, none with another meaning (杂种 is also a hybrid, 智障 a
# disability, "chink" a gap), since a filter should not drop good rows; English ones match as words, Chinese ones anywhere. For more
# words, add a rule to the contract
_TOXIC = """
    asshole assholes bitch bitches bullshit cunt cunts dickhead dickheads dumbass fag faggot faggots fags fuck fucked fucker
    fuckers fucking fucks jackass kike kikes motherfucker motherfuckers motherfucking nigga niggas nigger niggers retards
    shit shithead shits shitty slut sluts spics twat twats wanker wankers wetback wetbacks whore whores
"""
TOXIC_WORDS = frozenset(_TOXIC.split())
TOXIC_PARTS = (
    "操你妈", "草泥马", "日你妈", "肏", "傻逼", "傻屄", "煞笔", "妈逼", "他妈的", "你妈的", "狗娘养", "狗杂种", "王八蛋", "臭婊子",
    "婊子养", "贱货", "死全家", "去死吧", "黑鬼", "支那猪", "脑残", "狗东西",
)  # fmt: skip


RUN_TOKENS = 4
"""Tokens of a run that counts as repetition when it recurs: shorter ones recur in any text."""

Tokens = tuple[list[str], str]

_CJK = "\u4e00-\u9fff\u3041-\u30ff\u3400-\u4dbf\uac00-\ud7af\uf900-\ufaff"
"""The most frequent range is first, since the regular expression tries them in order."""
_CJK_RUN = re.compile(f"([{_CJK}]+)")
_WORD = re.compile(r"[^\W_]+")
_SPACES = " \n\t\r\u3000\xa0"
_REFUSAL_MARK = re.compile("|".join(REFUSAL_MARKS))
_TOXIC_PART = re.compile("|".join(TOXIC_PARTS))
_PUNCTUATION = {code: " " for code in range(128) if not chr(code).isalnum()} | {ord("'"): None}
_NOT_A_SYMBOL = bytes(code for code in range(128) if chr(code).isalnum() or chr(code).isspace())


@dataclass(frozen=True)
class Measures:
    repetition: float
    """Share, 0 to 1, of the output's runs of four tokens that occurred in it before."""
    symbol_share: float
    """Share of the output's characters that are neither letters, digits nor white space."""
    length_ratio: float
    """Tokens of the output per token of instruction and input; an empty prompt counts as one token."""
    is_refusal: bool
    """The output is a model's refusal, or presents itself as a model, in English or Chinese."""
    is_toxic: bool
    """Prompt or output holds a word of the list in tasks/curate/cleaning/quality.py."""


def measure(row: Mapping[str, str]) -> Measures:
    """The statistics of a row's `instruction`, `input` and `output`."""
    prompt, output = f"{row['instruction']}\n{row['input']}", row["output"]
    prompt_words, prompt_characters = _tokens(prompt)
    words, characters = _tokens(output)
    return Measures(
        repetition=_repetition(words, characters),
        symbol_share=_symbols(output, words, characters) / max(len(output), 1),
        length_ratio=(len(words) + len(characters)) / max(len(prompt_words) + len(prompt_characters), 1),
        is_refusal=_is_refusal(output, words, characters),
        is_toxic=_is_toxic(prompt_words, "") or _is_toxic(words, f"{prompt_characters} {characters}"),
    )


def _tokens(text: str) -> Tokens:
    """The text's words in lower case, and its Chinese, Japanese and Korean characters, joined."""
    if text.isascii():
        return text.lower().translate(_PUNCTUATION).split(), ""
    parts = _CJK_RUN.split(text)  # the pattern is one group: texts between runs and runs alternate
    rest = " ".join(parts[::2]).lower().replace("'", "").replace("’", "")
    return _WORD.findall(rest), "".join(parts[1::2])


def _repetition(words: list[str], characters: str) -> float:
    total = distinct = 0
    if (runs := len(words) - RUN_TOKENS + 1) > 0:
        total += runs
        distinct += len(set(zip(words, words[1:], words[2:], words[3:], strict=False)))
    if (runs := len(characters) - RUN_TOKENS + 1) > 0:
        total += runs
        distinct += _distinct_runs(characters)
    return 1 - distinct / total if total else 0.0


def _distinct_runs(characters: str) -> int:
    """How many different runs of four characters there are: four 16-bit units are viewed as one 64-bit number."""
    stored = characters.encode("utf-16-le")
    runs = np.ndarray((len(characters) - RUN_TOKENS + 1,), "<u8", stored, strides=(2,)).copy()
    runs.sort()
    return int(np.count_nonzero(runs[1:] != runs[:-1])) + 1


def _symbols(text: str, words: list[str], characters: str) -> int:
    if text.isascii():
        return len(text.encode().translate(None, _NOT_A_SYMBOL))
    spaces = sum(text.count(space) for space in _SPACES)
    return max(len(text) - len(characters) - len("".join(words)) - spaces, 0)


def _is_refusal(text: str, words: list[str], characters: str) -> bool:
    if not REFUSAL_HINTS.isdisjoint(words) and declines_in_english(text):
        return True
    return _REFUSAL_MARK.search(characters) is not None and declines_in_chinese(text)


def _is_toxic(words: list[str], characters: str) -> bool:
    if not TOXIC_WORDS.isdisjoint(words):
        return True
    return characters != " " and _TOXIC_PART.search(characters) is not None
