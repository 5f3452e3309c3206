"""Where surrounding white space is meaningful: in raw text, verse, diffs, and an answer that continues its prompt. Pure.

`subject` detects code. The result applies to all texts of a row, so that a pair's two answers are treated alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tasks.curate.cleaning.subject import Subject

_UNFINISHED = re.compile(r"[\w,，、]\Z")
_CONTINUES = re.compile(r"\s+[a-z\u3400-\u9fff]\S*(?:\s+\S+){3}|\s+[\u3400-\u9fff]{4}")
_INDENT = re.compile(r"(?: {2}|\t)[ \t]*+(?=\S)")
_OPENING = (":", "{", "[", "(", "：")
_CHANGED_LINE = re.compile(r"[+-]\S")
_LABEL = re.compile(r" *+[\w\-/&]{1,64}(?: [\w\-/&]{1,64}){0,4}\s*+")


def is_laid_out(row: Mapping[str, str]) -> bool:
    if _is_raw(row):
        return True
    prompt = row["input"] or row["instruction"]
    answers = [answer for answer in (row["output"], row["rejected"]) if answer[:1].isspace()]
    return any(_continues(prompt, answer) or _is_indented(answer) or _is_below(prompt, answer) for answer in answers)


def _is_raw(row: Mapping[str, str]) -> bool:
    """Is the row a text without a prompt?"""
    return not (row["input"] or row["instruction"] or row["system"]) and row["history"] == "[]"


def are_labels(row: Mapping[str, str]) -> bool:
    """Are the row's answers labels or a few words? White space around those is not meaningful."""
    if _is_raw(row) or (row["input"] or row["instruction"])[-1:].isspace():
        return False
    answers = [answer for answer in (row["output"], row["rejected"]) if answer]
    return all(_LABEL.fullmatch(answer) for answer in answers) and not Subject(answers).is_code


def _continues(prompt: str, answer: str) -> bool:
    """Does the answer continue the prompt's last sentence?"""
    return bool(_UNFINISHED.search(prompt[-1:]) and _CONTINUES.match(answer))


def _is_below(prompt: str, answer: str) -> bool:
    """Is the answer indented below the last line of the prompt: `if x:`, `  - a`, `all: main.o`?"""
    indent = _INDENT.match(answer)
    if indent is None:
        return False
    line = prompt.rstrip().rpartition("\n")[2]
    return line.endswith(_OPENING) or _INDENT.match(line) is not None or (indent[0][0] == "\t" and ":" in line)


def _is_indented(text: str) -> bool:
    """Are the first line and another one indented, or is it a diff (`-old`, `+new`)?"""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or lines[0][0] not in " \t":
        return False
    return sum(line[0] in " \t" for line in lines) > 1 or any(_CHANGED_LINE.match(line) for line in lines[1:])
