"""Invisible characters: those that separate words become a line end or a space, all others are removed. Pure.

Joiners that belong to a script or an emoji, and direction marks in a right-to-left text, are kept.
"""

from __future__ import annotations

import re

from tasks.pii.edits import Edit, code_point

_DIRECTION = "\u200e\u200f\u202a-\u202c\u2066-\u2069"
"""Marks and embeddings that a text in Hebrew or Arabic letters may need."""
_NEVER = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\u202d\u202e\u2060\ufeff\ufffe\uffff"
"""Controls except tab and line feed, separators, direction overrides, and noncharacters."""
_ANSI = r"\x1b(?:\[[0-9;?]{0,32}[@-~]|\][^\x07\x1b\r\n]{0,256}(?:\x07|\x1b\\)|[()][0-9A-B])"
"""Whole terminal sequences (colour, title, character set): otherwise `[31m` and `]0;title` would remain."""
_ANY = re.compile(f"[\r{_NEVER}{_DIRECTION}]")
_NOISE = re.compile(rf"(?P<line>\r\n?)|(?P<ansi>{_ANSI})|[{_NEVER}{_DIRECTION}]+")
_NOISE_RIGHT_TO_LEFT = re.compile(rf"(?P<line>\r\n?)|(?P<ansi>{_ANSI})|[{_NEVER}]+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")

_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Vertical tab, form feed, separators of files, groups and records, NEL, line and paragraph separator."""
_MAY_SEPARATE = "\x1f\u200b"
"""Unit separator and zero-width space: replaced by a space where nothing else separates two words."""
_NEW = dict.fromkeys(_LINE_ENDS, "\n")
for _code in {*range(0x80, 0xA0)} - {0x85}:  # Windows-1252 characters: `don\x92t` is `don’t`
    _NEW[chr(_code)] = bytes([_code]).decode("cp1252", "ignore")

_BEFORE_NO_SPACE = re.compile("[\\s(\\[{<«“‘「『（【/@#$_~^\\-\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_AFTER_NO_SPACE = re.compile("[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_WRITTEN_WITHOUT_SPACES = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u1aaf\ua980-\ua9ff\uaa60-\uaadf]")
"""Thai, Lao, Tibetan, Burmese, Khmer, Javanese and others separate words by the zero-width space, which is kept."""


def may_hold(text: str) -> bool:
    """Does the text hold an invisible character?"""
    if text.replace("\n", "").replace("\t", "").isprintable():  # most texts, in a tenth of the time
        return False
    return _ANY.search(text) is not None


def may_hold_in_json(text: str) -> bool:
    """May it be JSON with invisible characters in its strings, literal or escaped?"""
    return text.lstrip()[:1] in ("[", "{") and ("\\" in text or may_hold(text))


def edits_of(text: str) -> list[Edit]:
    """The edits for the text's invisible characters, in order."""
    pattern = _NOISE
    if not text.isascii() and _RIGHT_TO_LEFT.search(text):
        pattern = _NOISE_RIGHT_TO_LEFT
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
    """The edits for one run of invisible characters; the first that may separate words becomes a space if no other separates
    them."""
    run = text[start:end]
    left, right = text[start - 1 : start], text[end : end + 1]
    has_new = any(_NEW.get(character) for character in run)
    is_written_without = not has_new and (_WRITTEN_WITHOUT_SPACES.match(left) or _WRITTEN_WITHOUT_SPACES.match(right))
    needs_space = not has_new and _are_words(text, start, left, right)
    edits = []
    for position, character in enumerate(run, start):
        new = _NEW.get(character, "")
        if character in _MAY_SEPARATE:
            if character == "\u200b" and is_written_without:
                continue
            if needs_space:
                new, needs_space = " ", False
        edits.append(Edit(position, position + 1, new, "control_characters", code_point(character)))
    return edits


def _are_words(text: str, start: int, left: str, right: str) -> bool:
    """Would two words be joined without a separator?"""
    if not left or not right or not right.isalnum() or _AFTER_NO_SPACE.match(right) or _BEFORE_NO_SPACE.match(left):
        return False
    return left != "." or right.isupper() or not text[start - 2 : start - 1].isalnum()
