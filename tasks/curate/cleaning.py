"""Cleaning of text: control characters, markup left over from a page, and end-of-text markers left over from a dump.

Markup stays where it may be the subject: a row that speaks of HTML or code keeps every tag.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

# controls but for line feed and tab, and the invisible marks that reorder or hide text
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufffe\uffff]"
)
# blanks are taken from the first of a run on: tried from each of them, a run of 160,000 takes a minute
_BREAK = re.compile(r"(?:(?<![ \t])[ \t]++)?<(?:br\s*/?|/p|/div|/li|/h[1-6])>[ \t]*\n?", re.IGNORECASE)
_TAG = re.compile(r"</?(?:p|div|span|li|ul|ol|b|i|u|em|strong|font|a|h[1-6])(?:\s[^<>]{0,300})?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5}|#x[0-9a-fA-F]{2,5});")
_END_MARKER = re.compile(
    r"(?:<\|(?:endoftext|end_of_text|im_end|eot_id|end)\|>|</s>|<eos>|\[EOS\]|<\|eos\|>)", re.IGNORECASE
)
_SUBJECT_IS_CODE = re.compile(
    r"html|xml|css|javascript|markdown|```|<script|\bcode\b|\btags?\b|代码|标签|网页", re.IGNORECASE
)

TEXT_FIELDS = ("system", "instruction", "input", "output")


@dataclass
class Cleaned:
    row: dict[str, str]
    found: list[str] = field(default_factory=list)
    """What was taken out: `control_characters`, `markup`, `end_markers`."""


def clean_row(row: dict[str, str]) -> Cleaned:
    """The row with its text fields cleaned, and which kinds of dirt were found."""
    found: set[str] = set()
    cleaned = dict(row)
    has_markup = any("<" in row[name] or "&" in row[name] for name in TEXT_FIELDS)
    keeps_markup = not has_markup or any(_SUBJECT_IS_CODE.search(row[name]) for name in TEXT_FIELDS)
    for name in TEXT_FIELDS:
        if row[name]:
            cleaned[name] = _clean(row[name], keeps_markup, found)
    return Cleaned(cleaned, sorted(found))


def _clean(text: str, keeps_markup: bool, found: set[str]) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _CONTROL.search(text):
        found.add("control_characters")
        text = _CONTROL.sub("", text)
    if ("<" in text or "[" in text) and _END_MARKER.search(text):
        found.add("end_markers")
        text = _END_MARKER.sub("", text)
    if not keeps_markup:
        without_tags = _ENTITY.sub(
            lambda m: html.unescape(m[0]).replace("\xa0", " "), _TAG.sub("", _BREAK.sub("\n", text))
        )
        if without_tags != text:
            found.add("markup")
        text = without_tags
    return text.strip()
