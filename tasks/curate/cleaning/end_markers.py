"""End-of-text markers that a dump left in its texts: removed at the end of a text, and between two texts. Pure.

A marker within a line is mentioned by the line, and kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.pii.edits import Edit, white_space

MARKERS = (
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|eos|>", "<|endofsentence|>", "</s>",
    "<eos>", "<end_of_turn>", "<turn|>", "<｜end▁of▁sentence｜>", "[eos]", "<|eot|>", "<|return|>", "<|end_of_turn_token|>",
    "<eod>",
)  # fmt: skip
"""In lower case."""
_LONGEST = max(map(len, MARKERS))
_MARKER = "(?:{})".format("|".join(f"{re.escape(marker[0])}(?i:{re.escape(marker[1:])})" for marker in MARKERS))
_ANY = re.compile(_MARKER)
_RUN = re.compile(f"{_MARKER}+")
_BEFORE_ANOTHER_TEXT = ".!?。！？…\n"
"""A marker after one of these ends a text; another text follows."""


def may_hold(text: str) -> bool:
    return ("<" in text or "[" in text) and _ANY.search(text) is not None


def are_mentioned(texts: Iterable[str]) -> bool:
    """Is a marker within a line, as a word that the text mentions?"""
    return any(not _is_between(text, run) for text in texts for run in _RUN.finditer(text, 0, _end_of_text(text)))


def are_glued_to_text(text: str) -> bool:
    """Do the markers at the end follow the text without a space or quote, unlike a mentioned word?"""
    end = _end_of_text(text)
    before = text[:end][-1:]
    return bool(before) and end < len(text) and not before.isspace() and before not in "\"'`“‘「『:："


def _is_between(text: str, run: re.Match[str]) -> bool:
    return text[run.start() - 1 : run.start()] in tuple(_BEFORE_ANOTHER_TEXT)


def _end_of_text(text: str) -> int:
    """The end of the text without the markers, and the white space between them, at its end."""
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        tail = text[max(last - _LONGEST, 0) : last].lower()
        if not tail.endswith(MARKERS):
            return end
        end = last - next(len(marker) for marker in MARKERS if tail.endswith(marker))


def edits_of(text: str, are_tags: bool) -> list[Edit]:
    """Removes markers at the end with the white space after them; those between two texts become a line end. `are_tags`: the row is
    about markup, in which `</s>` is a tag."""
    if are_tags or "<s>" in text.lower():
        text = text.replace("</s>", "\0" * len("</s>"))
    end = _end_of_text(text)
    edits = []
    for run in _RUN.finditer(text, 0, end):
        if _is_between(text, run):
            new = "\n"
            for match in _ANY.finditer(text, *run.span()):
                edits.append(_edit(match, new))
                new = ""
    position = end
    for match in _ANY.finditer(text, end):
        edits += [*white_space(text, position, match.start()), _edit(match, "")]
        position = match.end()
    return [*edits, *white_space(text, position, len(text))] if position > end else edits


def _edit(match: re.Match[str], new: str) -> Edit:
    return Edit(match.start(), match.end(), new, "end_markers", match[0].lower())
