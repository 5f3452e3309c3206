"""Statistics of a row's text: repetition, symbols, length, script, refusals, toxic words. Pure.

    measure({"instruction": "Say it.", "input": "", "output": "As an AI language model, I cannot."}).is_refusal  # True

Tokens approximate those of tasks/records/segmentation.py, counted faster: without NFKC, and Chinese by character.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.curate.cleaning.word_lists import TOXIC_PARTS, TOXIC_WORDS
from tasks.scoring.refusals import REFUSAL_HINTS, REFUSAL_MARKS, declines_in_chinese, declines_in_english

RUN_TOKENS = 4
"""Tokens of a run that counts as repetition when it recurs: shorter ones recur in any text."""

Tokens = tuple[list[str], str]

_CJK = "\u4e00-\u9fff\u3041-\u30ff\u3400-\u4dbf\uac00-\ud7af\uf900-\ufaff"
"""The most frequent range is first, since the regular expression tries them in order."""
_CJK_RUN = re.compile(f"([{_CJK}]+)")
_WORD = re.compile(r"[^\W_]+")
_KANA = re.compile("[\u3041-\u30ff]")
_SPACES = " \n\t\r\u3000\xa0"
_HANGUL = re.compile("[\uac00-\ud7af]")
_REFUSAL_MARK = re.compile("|".join(REFUSAL_MARKS))
_TOXIC_PART = re.compile("|".join(TOXIC_PARTS))
_NOT_HAN = re.compile("[\u3041-\u30ff\uac00-\ud7af]")
_LATIN = re.compile("[A-Za-zÀ-ɏ]")
_PUNCTUATION = {code: " " for code in range(128) if not chr(code).isalnum()} | {ord("'"): None}
_DIGITS = b"0123456789"
_NOT_A_SYMBOL = bytes(code for code in range(128) if chr(code).isalnum() or chr(code).isspace())
_PAGES = {
    "Cyrillic": (0x04,),
    "Greek": (0x03,),
    "Hebrew": (0x05,),
    "Arabic": (0x06, 0xFB, 0xFC, 0xFD, 0xFE),
    "Devanagari": (0x09,),
    "Thai": (0x0E,),
}
_SCRIPT_OF_PAGE = {page: script for script, pages in _PAGES.items() for page in pages}
"""Page of 256 code points → the script of most of its letters."""


@dataclass(frozen=True)
class Measures:
    repetition: float
    """Share, 0 to 1, of the output's runs of four tokens that occurred in it before."""
    repeated_lines: float
    """Share of the output's non-blank lines that occurred in it before."""
    symbol_share: float
    """Share of the output's characters that are neither letters, digits nor white space."""
    length_ratio: float
    """Tokens of the output per token of instruction and input; an empty prompt counts as one token."""
    script: str
    """The script of most of the output's letters: `Latin`, `Han`, `Kana`, `Hangul`, ...; empty where there are no letters."""
    script_share: float
    """The share of the counted letters in that script; with kana, Chinese characters count as Japanese."""
    is_refusal: bool
    """The output is a model's refusal, or presents itself as a model, in English or Chinese."""
    is_toxic: bool
    """Prompt or output holds a word of the list in tasks/curate/cleaning/word_lists.py."""


def measure(row: Mapping[str, str]) -> Measures:
    """The statistics of a row's `instruction`, `input` and `output`."""
    prompt, output = f"{row['instruction']}\n{row['input']}", row["output"]
    prompt_words, prompt_characters = _tokens(prompt)
    words, characters = _tokens(output)
    script, script_share = _script(output, words, characters)
    return Measures(
        repetition=_repetition(words, characters),
        repeated_lines=_repeated_lines(output),
        symbol_share=_symbols(output, words, characters) / max(len(output), 1),
        length_ratio=(len(words) + len(characters)) / max(len(prompt_words) + len(prompt_characters), 1),
        script=script,
        script_share=script_share,
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


def _repeated_lines(text: str) -> float:
    if "\n" not in text:
        return 0.0
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def _symbols(text: str, words: list[str], characters: str) -> int:
    if text.isascii():
        return len(text.encode().translate(None, _NOT_A_SYMBOL))
    spaces = sum(text.count(space) for space in _SPACES)
    return max(len(text) - len(characters) - len("".join(words)) - spaces, 0)


def _script(text: str, words: list[str], characters: str) -> tuple[str, float]:
    """The script of most letters, by pages of 256 code points: enough to distinguish scripts."""
    if text.isascii():
        return ("Latin", 1.0) if _LATIN.search(text) else ("", 0.0)
    non_ascii = "".join(word for word in words if not word.isascii())
    ascii_letters = "".join(word for word in words if word.isascii()).encode().translate(None, _DIGITS)
    letters = {"Latin": len(ascii_letters) + len(_LATIN.findall(non_ascii))}
    if characters:
        letters["Han"] = len(characters)
        if _NOT_HAN.search(characters):
            if hangul := len(_HANGUL.findall(characters)):
                letters |= {"Hangul": hangul, "Han": len(characters) - hangul}
            if _KANA.search(characters):  # with kana, Chinese characters count as Japanese
                letters["Kana"] = letters.pop("Han")
    pages = non_ascii.encode("utf-16-le", "surrogatepass")[1::2]
    for page in set(pages):
        if script := _SCRIPT_OF_PAGE.get(page):
            letters[script] = letters.get(script, 0) + pages.count(page)
    script_of_most = max(letters, key=lambda name: (letters[name], name))
    return (script_of_most, letters[script_of_most] / sum(letters.values())) if letters[script_of_most] else ("", 0.0)


def _is_refusal(text: str, words: list[str], characters: str) -> bool:
    if not REFUSAL_HINTS.isdisjoint(words) and declines_in_english(text):
        return True
    return _REFUSAL_MARK.search(characters) is not None and declines_in_chinese(text)


def _is_toxic(words: list[str], characters: str) -> bool:
    if not TOXIC_WORDS.isdisjoint(words):
        return True
    return characters != " " and _TOXIC_PART.search(characters) is not None
