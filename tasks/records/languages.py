"""The language of a row: that of its human turns, "en" or "zh"; "mixed" if they are in both. Pure.

Results of tools, answers of the assistant, and code, formulas, JSON and addresses do not count. In a turn with letters of both
languages, words are counted, two Chinese characters as one: a name such as `NumPy` is one word of many letters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tasks.records.segmentation import CHINESE_SHARE, cjk_share, has_letters, language_of, segment

MIXED = "mixed"
DATA_TRIES = 16
"""The most brackets of a turn at which JSON is parsed."""

CHINESE_WORDS = 0.4
"""The least share of Chinese words in a Chinese turn whose share of letters is lower."""
FIRST_CJK = "\u2e80"
"""Above it, Unicode has only rare letters of other scripts that are segmented into words."""
_TOO_FEW = 0.1
"""The share of letters below which that share of words cannot be reached."""

_NOT_PEOPLE = ("tool_call", "tool", "user")
"""After such a turn of the history, a row's input is that of a tool or the assistant."""
_FENCED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\$[^$\n]*\$|\\[A-Za-z]+", re.DOTALL)
_ADDRESS = re.compile(r"(?:https?://|www\.)[!-~]+")
_BRACKET = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()


def row_language(fields: Mapping[str, Any]) -> str:
    """The language of a row.

    Args:
        fields: instruction, input, output, history (JSON: [[role, text], ...]).
    """
    turns = human_turns(fields)
    shares = [cjk_share(text) for text in turns]
    if turns and (not any(shares) or min(shares) >= CHINESE_SHARE):
        return "zh" if shares[0] else "en"
    languages = {_language(text) for text in _meaningful(turns)}
    if len(languages) > 1:
        return MIXED
    return languages.pop() if languages else language_of("\n".join(turns) or fields["output"])


def language_of_last_turn(row: Mapping[str, Any]) -> str:
    """The row's language; of a mixed row, that of the last human turn."""
    if row["language"] != MIXED:
        return str(row["language"])
    turns = human_turns(row)
    turns = _meaningful(turns) or turns
    return _language(turns[-1] if turns else row["output"])


def human_turns(fields: Mapping[str, Any]) -> list[str]:
    """The human turns that have letters, in order; instruction and input are one turn."""
    history = [] if fields["history"] == "[]" else json.loads(fields["history"])
    turns = [turn[1] for turn in history if turn[0] == "user"]
    if not history or history[-1][0] not in _NOT_PEOPLE:
        turns.append(f"{fields['instruction']}\n{fields['input']}".strip())
    return [text for text in turns if has_letters(text)]


def _language(text: str) -> str:
    """ "zh" if three in ten letters, or four in ten words, are Chinese."""
    share = cjk_share(text)
    if not _TOO_FEW <= share < CHINESE_SHARE:
        return "zh" if share >= CHINESE_SHARE else "en"
    words = [word for word in segment(text) if word[0].isalpha()]
    chinese = sum(word[0] >= FIRST_CJK for word in words) / 2
    others = sum(word[0] < FIRST_CJK for word in words)
    return "zh" if chinese >= CHINESE_WORDS * (chinese + others) else "en"


def _meaningful(turns: list[str]) -> list[str]:
    """The turns without their data; without turns of one word, such as `OK` or `好`, if others are longer."""
    texts = [text for text in map(without_data, turns) if has_letters(text)]
    return [text for text in texts if not _is_one_word(text)] or texts


def _is_one_word(text: str) -> bool:
    words = [word for word in segment(text) if has_letters(word)]
    return len(words) == 1


def without_data(text: str) -> str:
    """The text without fenced code, web addresses and JSON."""
    text, position, parts = _ADDRESS.sub(" ", _FENCED.sub(" ", text)), 0, []
    for _ in range(DATA_TRIES):
        bracket = _BRACKET.search(text, position)
        if bracket is None:
            break
        try:
            value, end = _DECODER.raw_decode(text, bracket.start())
        except (ValueError, RecursionError):
            value, end = None, bracket.end()
        parts.append(text[position : bracket.start() if value else end])
        position = end
    return "".join([*parts, text[position:]])
