"""Markup left over from a web page: removed only where a row's text is HTML throughout, and only text remains. Pure.

HTML writes any other `<` as `&lt;`. So a text is left-over markup only if every `<` starts a well-formed tag of running text, and
every tag is closed in order and not empty. `a<b and c>d`, `Option<i32>`, `<think>`, a table or a whole page is not, nor are tags
that the row uses: tags that a prompt shows around nothing or around `and`, tags around an answer as its prompt shows them, a break
in a cell of a Markdown table, a link that another text quotes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html.entities import name2codepoint

from tasks.pii.edits import Edit, white_space

_VALUE = r"""(?:"[^"<>]{0,2000}"|'[^'<>]{0,2000}'|[^\s"'<>=`]{1,2000})"""
_ATTRIBUTE = rf"\s++[A-Za-z_:@][\w:.\-]{{0,63}}\s*+=\s*+{_VALUE}"
_TAG = re.compile(rf"<(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9]{{0,9}})(?:{_ATTRIBUTE}){{0,20}}+\s*+(?P<void>/?)>")
_ENTITY = re.compile(r"&(?:amp;)*(?:[A-Za-z]{2,8}[0-9]{0,2}|#[0-9]{2,7}|#[xX][0-9a-fA-F]{2,6});")
_NAMES = frozenset([*name2codepoint, "apos"])
"""The entities of HTML 4 and XML; the many later ones are rare in text."""

_INLINE = frozenset(["b", "i", "u", "em", "strong", "font", "a", "span", "small", "big"])
"""Tags that change the appearance only. Those with a meaning of their own are kept: `x<sup>2</sup>`, `<del>not</del>`, `<ol>`."""
_BLOCKS = frozenset(["p", "div", "li", "ul", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "center"])
_VOID = frozenset(["br", "hr"])
_NESTED_EMPTY = frozenset(["p", "div", "span", "a"])
"""Often empty in pages; an empty `<b></b>` is a mention of the tag."""
_NO_TEXT = re.compile(r"\s*(?:and|or|和|与|及|或|到|至|\.{2,}|…+)\s*", re.IGNORECASE)
"""Text between two mentioned tags: `between <b> and </b>`, `<b>...</b>`."""
_WRAPPED = re.compile(r"\s*<(b|i|u|em|strong|small|big)>.*</\1>[\s.。]*", re.DOTALL)
MOST_LINKS = 64
"""Addresses of one text that are searched in the others."""
_QUOTED_VALUE = re.compile(r"""=\s*(?:"([^"<>]{4,2000})"|'([^'<>]{4,2000})')""")


def may_hold(text: str) -> bool:
    """A cheap check: False means that there is neither a tag nor an entity."""
    return "<" in text or ("&" in text and ";" in text)


def is_all_markup(texts: Iterable[str]) -> bool:
    """Does every `<` of the texts start a tag of left-over markup?"""
    return all(_are_tags_closed(text) and not _is_in_table(text) for text in texts if "<" in text)


def _is_in_table(text: str) -> bool:
    """Is a tag in a row of a Markdown table?"""
    return "|" in text and any("<" in line and line.lstrip()[:1] == "|" for line in text.split("\n"))


def is_used_by_the_row(texts: Mapping[str, str]) -> bool:
    """Does a text of the row depend on the tags of another: an answer in tags that a prompt shows, or the address of its link?"""
    marked = {name: text for name, text in texts.items() if "<" in text}
    wrapped = {name: match[1] for name, text in marked.items() if (match := _WRAPPED.fullmatch(text))}
    shown = [text for name, text in marked.items() if name not in wrapped]
    if any(f"<{tag}>" in text for tag in wrapped.values() for text in shown):
        return True
    for name, text in marked.items():
        quoted = (value for tag in _TAG.finditer(text) for value in _QUOTED_VALUE.finditer(tag[0]))
        values = {html.unescape(value[1] or value[2]) for value in quoted}
        bare = _TAG.sub(" ", text) if values else text
        others = [other for of, other in texts.items() if of != name]
        if any(value not in bare and any(value in other for other in others) for value in sorted(values)[:MOST_LINKS]):
            return True
    return False


def _are_tags_closed(text: str) -> bool:
    opened: list[tuple[str, int]] = []
    tags = 0
    for match in _TAG.finditer(text):
        name = match["name"].lower()
        tags += 1
        if name in _VOID:
            if match["close"]:
                return False
        elif name not in _INLINE and name not in _BLOCKS:
            return False
        elif not match["close"]:
            if match["void"] or (name == "a" and "=" not in match[0]):
                return False
            opened.append((name, match.end()))
        elif not opened or opened[-1][0] != name or not _holds_text(text, name, opened.pop()[1], match.start()):
            return False
    return not opened and tags == text.count("<")


def _holds_text(text: str, name: str, start: int, end: int) -> bool:
    """Does the element hold text, other than the word between two mentioned tags (`<b> and </b>`)?"""
    if name in _INLINE and start < end and _NO_TEXT.fullmatch(text, start, end):
        return False
    if start == end or not (text[start].isspace() and text[end - 1].isspace()):
        return start < end or name in _NESTED_EMPTY
    return name in _BLOCKS or name in _NESTED_EMPTY


def edits_of(text: str) -> list[Edit] | None:
    """Edits that remove tags, turn blocks and breaks into line ends, and decode entities; None where an entity is not printable."""
    edits: list[Edit] = []
    position, begins_line = 0, True
    for match in _TAG.finditer(text):
        start = match.start()
        if between := text[position:start].rstrip(" \t"):
            begins_line = between.endswith("\n")
        entities = _entities(text, position, start)
        if entities is None:
            return None
        edits += entities
        name, piece = match["name"].lower(), f"<{match['close']}{match['name'].lower()}>"
        if name in _INLINE:
            position = match.end()
            edits.append(Edit(start, position, "", "markup", piece))
        elif name in _BLOCKS and not match["close"]:
            position = match.end()
            edits.append(Edit(start, position, "" if begins_line else "\n", "markup", piece))
            begins_line = True
        else:
            first, last = _with_blanks(text, position, *match.span())
            edits += white_space(text, first, start)
            edits.append(Edit(start, match.end(), "\n", "markup", piece))
            edits += white_space(text, match.end(), last)
            position, begins_line = last, True
    rest = _entities(text, position, len(text))
    return None if rest is None else _without_last_line_end([*edits, *rest], len(text))


def _without_last_line_end(edits: list[Edit], end: int) -> list[Edit]:
    """The edits without new line ends at the end of the text, where nothing follows."""
    for number in range(len(edits) - 1, -1, -1):
        if edits[number].end != end or edits[number].new not in ("", "\n"):
            break
        end = edits[number].start
        edits[number] = replace(edits[number], new="")
    return edits


def _with_blanks(text: str, position: int, start: int, end: int) -> tuple[int, int]:
    """Start and end of a tag that ends a line, with the blanks around it (not before `position`) and the line end after it."""
    while start > position and text[start - 1] in " \t":
        start -= 1
    while end < len(text) and text[end] in " \t":
        end += 1
    return start, end + (text[end : end + 1] == "\n")


def _entities(text: str, start: int, end: int) -> list[Edit] | None:
    edits = []
    for match in _ENTITY.finditer(text, start, end):
        name = match[0].split(";")[-2].removeprefix("&")  # `&amp;lt;` is `&lt;`, escaped twice
        if not name.startswith("#") and name not in _NAMES:
            continue
        entity = f"&{name};"
        new = html.unescape(entity).replace("\xa0", " ")
        if not new.isprintable() or new == "\ufffd":
            return None
        edits.append(Edit(*match.span(), new, "markup", "&#;" if entity.startswith("&#") else entity))
    return edits
