"""Truncates rows that are too long: first the oldest turns, then the end of the input; never the answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tasks.prompts.tokens.word_cache import WordTable
from tasks.runtime.files import canonical_json

Row = dict[str, Any]


def shorten(rows: Sequence[Row], tokens: Sequence[int], words: WordTable) -> list[Row | None]:
    """Each row without its oldest exchange, or without `tokens` tokens at the end of its input; None where nothing remains."""
    shortened: list[Row | None] = [_without_oldest(row) for row in rows]
    without_history = [index for index, row in enumerate(shortened) if row is None]
    shorter_inputs = words.cut(
        [rows[index]["input"] for index in without_history], [tokens[index] for index in without_history]
    )
    for index, text in zip(without_history, shorter_inputs, strict=True):
        shortened[index] = {**rows[index], "input": text} if text else None
    return shortened


def _without_oldest(row: Row) -> Row | None:
    if row["history"] == "[]":
        return None
    history = json.loads(row["history"])
    for index in range(1, len(history)):
        if history[index][0] == "user":
            return {**row, "history": canonical_json(history[index:])}
    if history and history[-1][0] == "assistant":  # the input is the user's, and needs no history
        return {**row, "history": "[]"}
    return None


def drop_old_turns(row: Row, max_length_tokens: int, words: WordTable) -> Row:
    """The row without the oldest exchanges while the texts of its turns alone are too long."""
    history = json.loads(row["history"])
    lengths = [len(ids) for ids in words.encode([text for _, text in history])]
    total, first = sum(lengths), 0
    for index in range(1, len(history)):
        if total < max_length_tokens:
            break
        if history[index][0] == "user":
            total -= sum(lengths[first:index])
            first = index
    return {**row, "history": canonical_json(history[first:])} if first else row
