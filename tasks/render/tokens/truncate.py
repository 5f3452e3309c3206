"""Rows that are too long: the oldest turns go first, then the end of the input; never the answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tasks.render.tokens.word_cache import WordTable
from tasks.runtime.files import canonical_json

Row = dict[str, Any]


def shorten(rows: Sequence[Row], tokens: Sequence[int], words: WordTable) -> list[Row | None]:
    """Each row without its oldest exchange, or without so many tokens at the end of its input; None where nothing is left."""
    shorter: list[Row | None] = [_without_oldest(row) for row in rows]
    uncut = [place for place, row in enumerate(shorter) if row is None]
    kept = words.cut([rows[place]["input"] for place in uncut], [tokens[place] for place in uncut])
    for place, text in zip(uncut, kept, strict=True):
        shorter[place] = {**rows[place], "input": text} if text else None
    return shorter


def _without_oldest(row: Row) -> Row | None:
    if row["history"] == "[]":
        return None
    history = json.loads(row["history"])
    for place in range(1, len(history)):
        if history[place][0] == "user":
            return {**row, "history": canonical_json(history[place:])}
    if history and history[-1][0] == "assistant":  # the input is a user's: it can stand alone
        return {**row, "history": "[]"}
    return None


def drop_old_turns(row: Row, max_length_tokens: int, words: WordTable) -> Row:
    """The row without the oldest exchanges, as many as must go because the turns' texts alone are too long."""
    history = json.loads(row["history"])
    lengths = [len(ids) for ids in words.encode([text for _, text in history])]
    total, first = sum(lengths), 0
    for place in range(1, len(history)):
        if total < max_length_tokens:
            break
        if history[place][0] == "user":
            total -= sum(lengths[first:place])
            first = place
    return {**row, "history": canonical_json(history[first:])} if first else row
