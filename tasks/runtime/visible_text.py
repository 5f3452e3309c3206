"""Text of rows, files, labels and models as a terminal, a page or a picture may show it: nothing in it acts. Pure."""

from __future__ import annotations

import json
import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\xad\u115f\u1160\u180e\u200b\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""C0 and C1 but for tab and line feed, line separators, what turns the direction of text, and what nobody would see. The joiners
(U+200C, U+200D) stay: Persian, Hindi and emoji are written with them."""


def shown(text: str) -> str:
    """`\\x1b` and the like are visible; line feeds and tabs, and every letter of every language, stay."""
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text


def shown_in_json(text: str) -> str:
    """As `shown`, of JSON text: it means the same."""
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def shown_in_markdown(text: str) -> str:
    """As `shown`, on one line, and neither HTML, nor a link, nor the edge of a table's cell."""
    line = " ".join(shown(text).split())
    return "".join(f"&#{ord(each)};" if each in "&<>[]|`*_\\~!#" else each for each in line)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
