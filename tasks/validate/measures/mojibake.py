"""Detects text that was decoded in the wrong encoding, English and Chinese. Pure.

    â€œquotedâ€   UTF-8 read as Latin-1 or cp1252
    浣犲ソ涓栫晫       UTF-8 read as GBK
    锟斤拷            U+FFFD written as UTF-8, then read as GBK

A run counts only if its bytes, encoded back, are valid UTF-8: those of `São`, `Größe` and common Chinese are not.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import islice

_CP1252 = {
    bytes([value]).decode("cp1252"): value for value in range(0x80, 0xA0) if value not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_BYTE_OF = {chr(value): value for value in range(0x80, 0x100)} | _CP1252
_LATIN_RUN = re.compile(f"[{re.escape(''.join(_BYTE_OF))}]{{2,}}")
_HAN_RUN = re.compile("[\u3040-\u30ff\u3400-\u9fff\ue000-\uf8ff]{4,}")
_TWICE_LOST = "锟斤拷"
_TYPOGRAPHIC = "–—‘’‚“”„†‡•…‰‹›€™"


def _begins_utf8(character: str) -> bool:
    """May UTF-8 read as GBK begin with it? Its first byte must be a UTF-8 lead byte, its second a continuation byte."""
    try:
        first, second = character.encode("gbk")
    except (UnicodeEncodeError, ValueError):
        return False
    return first >= 0xE0 and 0x80 <= second <= 0xBF


@cache
def pattern_of_damage() -> str:
    """An RE2 pattern that matches every damaged text and few sound ones: the others need no check in Python."""
    ranges = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xE000, 0xF8FF))
    han = "".join(f"\\x{{{begin:X}}}-\\x{{{end:X}}}" for begin, end in ranges)
    characters = (chr(code) for begin, end in ranges for code in range(begin, end + 1))
    beginnings = "".join(filter(_begins_utf8, characters))
    latin = "".join(sorted(_BYTE_OF))
    return f"\ufffd|{_TWICE_LOST}|[{latin}]{{2}}|(?:^|[^{han}])[{beginnings}][{han}]{{3}}"


def replacement_characters(text: str) -> int:
    """How many characters are lost (U+FFFD)."""
    return text.count("\ufffd")


def mojibake_runs(text: str) -> int:
    """How many runs of the text are UTF-8 decoded as another encoding."""
    if text.isascii():
        return 0
    runs = text.count(_TWICE_LOST)
    runs += sum(_is_utf8_as_latin(run) for run in _LATIN_RUN.findall(text))
    return runs + sum(_is_utf8_as_gbk(run) for run in _HAN_RUN.findall(text))


def damaged_span(text: str) -> tuple[int, int] | None:
    """Start and end of the first damage; None in a sound text."""
    spans = [(start, start + len(lost)) for lost in ("\ufffd", _TWICE_LOST) if (start := text.find(lost)) >= 0]
    for runs, is_damage in ((_LATIN_RUN, _is_utf8_as_latin), (_HAN_RUN, _is_utf8_as_gbk)):
        spans += islice((run.span() for run in runs.finditer(text) if is_damage(run[0])), 1)
    return min(spans, default=None)


def _is_utf8_as_latin(run: str) -> bool:
    """One `Ã©` or `â€™` is enough; other scripts need two characters, since the bytes of `Spaß”` happen to be UTF-8."""
    decoded = _utf8(bytes(_BYTE_OF[character] for character in run))
    is_plain = any("\u00a0" <= character <= "\u00ff" or character in _TYPOGRAPHIC for character in decoded)
    return is_plain or sum(character >= "\u0370" for character in decoded) >= 2


def _is_utf8_as_gbk(run: str) -> bool:
    """Is it valid UTF-8 of Chinese characters? The end of the run may be cut, where punctuation split a character."""
    try:
        decoded = _utf8(run.encode("gbk"))
    except UnicodeEncodeError:
        return False
    return len(decoded) >= 2 and all(
        "\u3000" <= character <= "\u9fff" or character >= "\uff00" for character in decoded
    )


def _utf8(content: bytes) -> str:
    """The bytes as UTF-8, without an incomplete character at the end; empty where they are not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data"
        return content[: error.start].decode("utf-8") if is_cut else ""
