"""End-of-text markers that a dump left in its texts: taken from the end of a text, and from between two texts. Pure.

A marker within a line is what the line speaks of, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.curate.edits import Edit, white_space

MARKERS = (
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|eos|>", "<|endofsentence|>", "</s>",
    "<eos>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "[eos]",
)  # fmt: skip
"""In small letters."""
_LONGEST = max(map(len, MARKERS))
_ONE = "(?:" + "|".join(map(re.escape, MARKERS)) + ")"
_ANY = re.compile(_ONE, re.IGNORECASE)
_BETWEEN = re.compile(rf"(?<=[.!?。！？…\n]){_ONE}+", re.IGNORECASE)
"""Right behind the end of a sentence or a line."""


def may_hold(text: str) -> bool:
    return (">" in text or "]" in text) and _ANY.search(text) is not None


def are_spoken_of(texts: Iterable[str]) -> bool:
    """Does a marker stand within a line, as a word that is spoken of?"""
    for text in texts:
        if may_hold(text):
            rest = _BETWEEN.sub("\n", text[: _end_without(text)])
            if _ANY.search(rest):
                return True
    return False


def _end_without(text: str) -> int:
    """Where the text ends without markers, and the white space between them, at its end."""
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        tail = text[max(last - _LONGEST, 0) : last].lower()
        marker = next((marker for marker in MARKERS if tail.endswith(marker)), None)
        if marker is None:
            return end
        end = last - len(marker)


def edits_of(text: str, are_tags: bool) -> list[Edit]:
    """Markers at the end go, with the white space behind; those between two texts become a line end.

    Args:
        are_tags: is `</s>` a tag of what the row speaks of?
    """
    if are_tags or "<s>" in text.lower():
        text = text.replace("</s>", "\0" * len("</s>"))
    end = _end_without(text)
    edits = []
    for match in _BETWEEN.finditer(text, 0, end):
        edits += [_edit(each, match.start(), "\n" if not each.start() else "") for each in _ANY.finditer(match[0])]
    place = end
    for match in _ANY.finditer(text, end):
        edits += (
            [*white_space(text, place, match.start()), _edit(match, 0, "")]
            if match.start() > end
            else [_edit(match, 0, "")]
        )
        place = match.end()
    return edits + (white_space(text, place, len(text)) if place > end else [])


def _edit(match: re.Match[str], first: int, new: str) -> Edit:
    return Edit(first + match.start(), first + match.end(), new, "end_markers", match[0].lower())
