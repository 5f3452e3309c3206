"""CoNLL columns → a sentence and the list of its entities, by character. Pure."""

from __future__ import annotations

import json
from typing import Any

import regex

from tasks.shape_fields import Columns, Fields, NoRow, list_of

_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\u3000-\u303f\uff01-\uff60]")
"""Scripts and punctuation that are written without spaces between words; Korean is not."""


def conll(record: dict[str, Any], columns: Columns) -> Fields:
    """tokens and tags (BIO) → `input`: the sentence; `output`: JSON [{"type", "text", "start", "end"}, ...], in order."""
    tokens = _texts(record, columns.get("tokens", "tokens"))
    column = columns.get("tags", "tags")
    tags = _texts(record, column)
    if len(tokens) != len(tags):
        raise NoRow("wrong_type", column, f"{len(tags)} tags for {len(tokens)} tokens")
    sentence, starts = joined(tokens)
    found: list[dict[str, Any]] = []
    open_type = ""
    for place, (token, tag) in enumerate(zip(tokens, tags, strict=True)):
        mark, _, kind = tag.partition("-")
        end = starts[place] + len(token)
        if tag == "O":
            open_type = ""
        elif mark == "B" and kind:
            open_type = kind
            found.append({"type": kind, "text": token, "start": starts[place], "end": end})
        elif mark == "I" and kind and kind == open_type:
            found[-1] |= {"text": sentence[found[-1]["start"] : end], "end": end}
        else:
            before = tags[place - 1] if place else "nothing"
            raise NoRow(
                "wrong_type", column, f"{tag} at token {place + 1} ({token}) follows {before}; BIO allows it not"
            )
    return {"input": sentence, "output": json.dumps(found, ensure_ascii=False, separators=(",", ":"))}


def joined(tokens: list[str]) -> tuple[str, list[int]]:
    """The tokens as text, and where each begins: a space between two, but none beside a Chinese character."""
    text = ""
    starts = []
    parts: list[str] = []
    length = 0
    for token in tokens:
        if text and token and not (_UNSPACED.match(text[-1]) or _UNSPACED.match(token[0])):
            parts.append(" ")
            length += 1
        starts.append(length)
        parts.append(token)
        length += len(token)
        text = token or text
    return "".join(parts), starts


def _texts(record: dict[str, Any], column: str) -> list[str]:
    value = record.get(column)
    if value is None:
        raise NoRow("missing_field", column, sorted(record))
    value = list_of(value, column)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise NoRow("wrong_type", column, value)
    return value
