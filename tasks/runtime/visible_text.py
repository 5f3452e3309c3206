"""Escapes texts of rows, files, labels and models for a terminal, a page or a plot, so that nothing in them is executed. Pure."""

from __future__ import annotations

import json
import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\xad\u115f\u1160\u180e\u200b\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""C0 and C1 without tab and line feed, line separators, bidirectional controls, and invisible characters. The joiners (U+200C,
U+200D) are kept: Persian, Hindi and emoji need them."""


def printable(text: str) -> str:
    """The text with control characters escaped (`\\x1b`); line feeds, tabs and the letters of all languages stay."""
    return _UNSAFE.sub(_escape_match, text) if _UNSAFE.search(text) else text


def printable_json(text: str) -> str:
    """As `printable`, for JSON text, by JSON escapes: its value is the same."""
    return _UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text)


def printable_markdown(text: str) -> str:
    """As `printable`, on one line, with the characters of HTML, links and tables escaped."""
    line = " ".join(printable(text).split())
    return "".join(f"&#{ord(c)};" if c in "&<>[]|`*_\\~!#" else c for c in line)


def _escape_match(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
