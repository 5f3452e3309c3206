"""Characters that nobody sees: what separates words becomes a line end or a space, what separates nothing goes. Pure.

Joiners that belong to a script or an emoji, and direction marks in a text written from right to left, stay.
"""

from __future__ import annotations

import re

from tasks.curate.cleaning.edits import Edit, code_point

_DIRECTION = "\u200e\u200f\u202a-\u202c\u2066-\u2069"
"""Marks and embeddings that a text in Hebrew or Arabic letters may need."""
_NEVER = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\u202d\u202e\u2060\ufeff\ufffe\uffff"
"""Controls but for tab and line feed, separators, overrides of the direction, and what is no character."""
_ANSI = r"\x1b(?:\[[0-9;?]{0,32}[@-~]|\][^\x07\x1b\r\n]{0,256}(?:\x07|\x1b\\)|[()][0-9A-B])"
"""A terminal's colours, its title and its character set, all of each, or `[31m` and `]0;title` would be left."""
_ANY = re.compile(f"[\r{_NEVER}{_DIRECTION}]")
_DIRT = re.compile(rf"(?P<line>\r\n?)|(?P<ansi>{_ANSI})|[{_NEVER}{_DIRECTION}]+")
_DIRT_FROM_RIGHT_TO_LEFT = re.compile(rf"(?P<line>\r\n?)|(?P<ansi>{_ANSI})|[{_NEVER}]+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")

_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Vertical tab, form feed, separators of files, groups and records, NEL, line and paragraph separator."""
_MAY_SEPARATE = "\x1f\u200b"
"""Unit separator and zero-width space: a space, where nothing else parts two words."""
_NEW = dict.fromkeys(_LINE_ENDS, "\n")
for _code in {*range(0x80, 0xA0)} - {0x85}:  # what Windows-1252 writes there: `don\x92t` is `don’t`
    _NEW[chr(_code)] = bytes([_code]).decode("cp1252", "ignore")

_BEFORE_NO_SPACE = re.compile("[\\s(\\[{<«“‘「『（【/@#$_~^\\-\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_AFTER_NO_SPACE = re.compile("[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_WRITTEN_WITHOUT_SPACES = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u1aaf\ua980-\ua9ff\uaa60-\uaadf]")
"""Thai, Lao, Tibetan, Burmese, Khmer, Javanese and others: the zero-width space is how they part words, and stays."""


def may_hold(text: str) -> bool:
    """Is any such character in the text?"""
    if text.replace("\n", "").replace("\t", "").isprintable():  # most texts, in a tenth of the time
        return False
    return _ANY.search(text) is not None


def edits_of(text: str) -> list[Edit]:
    """What becomes of the text's unseen characters, in order."""
    pattern = _DIRT
    if not text.isascii() and _RIGHT_TO_LEFT.search(text):
        pattern = _DIRT_FROM_RIGHT_TO_LEFT
    edits: list[Edit] = []
    for match in pattern.finditer(text):
        start, end = match.span()
        if match["line"]:
            edits.append(Edit(start, start + 1, "" if end > start + 1 else "\n", "line_ends", "U+000D"))
        elif match["ansi"]:
            edits.append(Edit(start, end, "", "control_characters", f"U+001B{text[start + 1]}"))
        else:
            edits += _run(text, start, end)
    return edits


def _run(text: str, start: int, end: int) -> list[Edit]:
    """One run of unseen characters, an edit each; the first that may separate words does, if none else does."""
    run = text[start:end]
    left, right = text[start - 1 : start], text[end : end + 1]
    has_new = any(_NEW.get(character) for character in run)
    is_written_without = not has_new and (_WRITTEN_WITHOUT_SPACES.match(left) or _WRITTEN_WITHOUT_SPACES.match(right))
    needs_space = not has_new and _are_words(text, start, left, right)
    edits = []
    for place, character in enumerate(run, start):
        new = _NEW.get(character, "")
        if character in _MAY_SEPARATE:
            if character == "\u200b" and is_written_without:
                continue
            if needs_space:
                new, needs_space = " ", False
        edits.append(Edit(place, place + 1, new, "control_characters", code_point(character)))
    return edits


def _are_words(text: str, start: int, left: str, right: str) -> bool:
    """Would two words run into one another, if nothing stood between them?"""
    if not left or not right or not right.isalnum() or _AFTER_NO_SPACE.match(right) or _BEFORE_NO_SPACE.match(left):
        return False
    return left != "." or right.isupper() or not text[start - 2 : start - 1].isalnum()
