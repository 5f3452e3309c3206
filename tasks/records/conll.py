"""CoNLL columns → a sentence and the list of its entities, by character. Pure."""

from __future__ import annotations

import json
from typing import Any

import regex

from tasks.records.shape_fields import Columns, Fields, list_of, value_of, wrong_type

_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\u3000-\u303f\uff01-\uff60]")
"""Scripts and punctuation that are written without spaces between words; Korean is not."""


_SEPARATORS = regex.compile("[,|]")
_TAG = regex.compile(r"O|[BIMELSU]-.+")
_BIO = {"M": "I", "E": "I", "L": "I", "S": "B", "U": "B"}
"""Prefixes of other schemes (BMES, BIOES, BILOU) → those of BIO."""
_ENDS = frozenset("ELSU")
"""Prefixes that end an entity."""


def conll(record: dict[str, Any], columns: Columns) -> Fields:
    """tokens and tags (BIO) → `input`: the sentence; `output`: JSON [{"type", "text", "start", "end"}, ...], in order.

    A token may have several tags (`B-LOC,B-PER`, also with `|`, or a list): each type is read separately, so entities may overlap.
    `B-x` begins an entity, `I-x` continues the one of its type, and a token without its type ends it. `M-x` is `I-x`; so are `E-x`
    and `L-x`, which also end the entity; `S-x` and `U-x` are an entity of one token.
    """
    column = columns.get("tokens", "tokens")
    tokens = list_of(value_of(record, column), column)
    if not all(isinstance(token, str) for token in tokens):
        raise wrong_type(column, tokens)
    column = columns.get("tags", "tags")
    tags = [_tags(value, column) for value in list_of(value_of(record, column), column)]
    if len(tokens) != len(tags):
        raise wrong_type(column, f"{len(tags)} tags for {len(tokens)} tokens")
    sentence, starts = joined(tokens)
    entities: list[dict[str, Any]] = []
    is_open: dict[str, dict[str, Any]] = {}
    for index, (token, token_tags) in enumerate(zip(tokens, tags, strict=True)):
        end = starts[index] + len(token)
        named: dict[str, dict[str, Any]] = {}
        ended: set[str] = set()
        for tag in token_tags:
            mark, _, kind = tag.partition("-")
            if tag == "O":
                continue
            if kind in named:
                raise wrong_type(column, f"two tags of {kind} at token {index + 1} ({token}): {','.join(token_tags)}")
            if mark in _ENDS:
                ended.add(kind)
            mark = _BIO.get(mark, mark)
            if mark == "B" and kind:
                entities.append({"type": kind, "text": token, "start": starts[index], "end": end})
                named[kind] = entities[-1]
            elif mark == "I" and kind in is_open:
                named[kind] = is_open[kind]
                named[kind] |= {"text": sentence[named[kind]["start"] : end], "end": end}
            else:
                before = ",".join(tags[index - 1]) if index else "nothing"
                what = f"{tag} at token {index + 1} ({token}) follows {before}; BIO allows it not"
                raise wrong_type(column, what)
        is_open = {kind: entity for kind, entity in named.items() if kind not in ended}
    return {"input": sentence, "output": json.dumps(entities, ensure_ascii=False, separators=(",", ":"))}


def _tags(value: Any, column: str) -> list[str]:
    """The tags of a token."""
    if isinstance(value, list) and value and all(isinstance(tag, str) for tag in value):
        return value
    if not isinstance(value, str):
        raise wrong_type(column, value)
    tags = [tag.strip() for tag in _SEPARATORS.split(value)]
    return tags if all(_TAG.fullmatch(tag) for tag in tags) else [value]


def joined(tokens: list[str]) -> tuple[str, list[int]]:
    """The tokens as text, with spaces except next to Chinese characters; and the start of each."""
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
