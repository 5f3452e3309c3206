"""A record of any shape → the fields of a row, or the problem because of which it is not a row. Pure.

alpaca             instruction, input?, output; system? and history? ([[question, answer], ...])
prompt_completion  prompt → input, completion → output; system?
text_label         text → input, label → output
sharegpt           conversations: [{from, value}, ...]; system?, tools?, images?
messages           messages: [{role, content}, ...]; content may be OpenAI's list of parts: text, image_url; tools?, images?
preference         the prompt (prompt, conversations or messages), chosen → output, rejected
kto                a dialogue, or prompt and completion, and a boolean label → desirable
text               text → output; no input
conll              tokens, tags (BIO) → input, output: JSON list of entities
parallel           source → input, target → output
row                a row's own fields (tasks/records/row.py), as Strop itself writes them

A record of any shape may have tests for an answer of code (code_tests.py).
A generated record, and one that is made of feedback on a served answer, has a reserved column (origin.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from tasks.records.code_tests import tests_of
from tasks.records.conll import conll
from tasks.records.conversations import are_turns, as_fields, turns_of
from tasks.records.ordered_json import comparable
from tasks.records.origin import origin_of
from tasks.records.row import NO_TEXT
from tasks.records.segmentation import around
from tasks.records.shape_fields import (
    Columns,
    Fields,
    NoRow,
    Problem,
    Turn,
    json_of,
    list_of,
    optional_text,
    text_of,
    value_of,
    wrong_type,
)
from tasks.records.turns import ANSWERS
from tasks.runtime.files import canonical_json

__all__ = ["Columns", "Fields", "Problem", "own_id", "to_fields"]

_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


def to_fields(record: Any, shape: str, columns: Columns) -> Fields | Problem:
    """The row's fields (NO_TEXT, and those about its origin: `synthetic` and `parents`, or `served`); or its problem.

    Args:
        columns: our field → column of the record, if its name differs.
    """
    try:
        if not isinstance(record, dict):
            raise NoRow("not_an_object", "record", record)
        fields = dict(NO_TEXT)
        fields |= SHAPES[shape](record, columns)
        fields |= tests_of(record, columns)
        fields |= origin_of(record)
        for name, text in fields.items():
            if not text.isascii() and (half := _HALF_SURROGATE.search(text)):  # invalid in all our file formats
                raise NoRow("encoding_damage", name, around(text, *half.span()))
        return fields
    except NoRow as error:
        return error.problem


def own_id(record: Any, columns: Columns) -> str | None:
    """The record's own id, as text, if the source has a column for it."""
    if "id" not in columns or not isinstance(record, dict):
        return None
    value = record.get(columns["id"])
    return None if value is None else comparable(value)


def _alpaca(record: dict[str, Any], columns: Columns) -> Fields:
    fields = {
        "instruction": text_of(record, columns, "instruction"),
        "input": optional_text(record, columns, "input"),
        "output": text_of(record, columns, "output"),
        "system": optional_text(record, columns, "system"),
    }
    column = columns.get("history", "history")
    if earlier := record.get(column):
        fields["history"] = canonical_json(_pairs(earlier, column))
    return fields


def _prompt_completion(record: dict[str, Any], columns: Columns) -> Fields:
    return {
        "input": text_of(record, columns, "prompt"),
        "output": text_of(record, columns, "completion"),
        "system": optional_text(record, columns, "system"),
    }


def _text_label(record: dict[str, Any], columns: Columns) -> Fields:
    column = columns.get("label", "label")
    label = record.get(column)
    if type(label) is int:  # the name of a class, which CSV has as text
        record = record | {column: str(label)}
    return {"input": text_of(record, columns, "text"), "output": text_of(record, columns, "label")}


def _dialogue(record: dict[str, Any], columns: Columns, field: str, has_system: bool) -> Fields:
    column = columns.get(field, field)
    turns = turns_of(value_of(record, column), columns, column, record.get("loss_mask"))
    return as_fields(turns, record, columns, column, has_system)


def _preference(record: dict[str, Any], columns: Columns) -> Fields:
    turns, column = _prompt_turns(record, columns)
    better, worse = (_answer(record, columns, field) for field in ("chosen", "rejected"))
    if not turns or turns == better:  # both answers have the whole dialogue, or `messages` is the better one
        turns, column = better[:-1], columns.get("chosen", "chosen")
    for answer, field in ((better, "chosen"), (worse, "rejected")):
        if answer[:-1] not in ([], turns) or answer[-1].role not in ("assistant", "tool_call"):
            roles = " → ".join(turn.role for turn in answer)
            raise NoRow("role_order", columns.get(field, field), f"{roles}, after another dialogue than the other's")
    fields = as_fields([*turns, better[-1]], record, columns, column, must_end=True) | {"rejected": worse[-1].text}
    if thought := worse[-1].thought:
        fields["thoughts"] = canonical_json([*json.loads(fields.get("thoughts", "[]")), [0, thought]])
    return fields


def _prompt_turns(record: dict[str, Any], columns: Columns) -> tuple[list[Turn], str]:
    """The turns before an answer, and their column."""
    for field in ("conversations", "messages", "prompt"):
        column = columns.get(field, field)
        if (value := record.get(column)) is not None:
            if field == "prompt" and isinstance(value, str) and not are_turns(value, columns):
                return [Turn("user", value)], column
            return turns_of(value, columns, column, record.get("loss_mask")), column
    return [], ""


def _answer(record: dict[str, Any], columns: Columns, field: str) -> list[Turn]:
    """An answer as turns, the last one its own: it may be text, a turn, or a dialogue."""
    column = columns.get(field, field)
    value = value_of(record, column)
    if isinstance(value, str):
        if not are_turns(value, columns):
            return [Turn("assistant", value)]
        value = json_of(value, column)
    turns = turns_of([value] if isinstance(value, dict) else value, columns, column)
    if not turns:
        raise NoRow("role_order", column, "no turns")
    return turns


def _kto(record: dict[str, Any], columns: Columns) -> Fields:
    column = columns.get("label", "label")
    label = value_of(record, column)
    # databases without booleans have 1 and 0
    desirable = {"1": "true", "0": "false"}.get(str(label), str(label).lower())
    if not isinstance(label, (int, str)) or desirable not in ("true", "false"):
        raise wrong_type(column, label)
    turns, prompt_column = _prompt_turns(record, columns)
    column = columns.get("completion", "completion")
    if prompt_column == columns.get("prompt", "prompt") or record.get(column) not in (None, ""):
        *before, answer = _answer(record, columns, "completion")
        if before:
            raise NoRow("role_order", column, " → ".join(turn.role for turn in (*before, answer)))
        if turns and turns[-1].role in ANSWERS and turns[-1] != answer:
            raise wrong_type(column, f"an answer beside the one that `{prompt_column}` ends with")
        turns = turns if turns and turns[-1] == answer else [*turns, answer]
    if not prompt_column:
        raise NoRow("missing_field", columns.get("messages", "messages"), sorted(record))
    return as_fields(turns, record, columns, prompt_column, must_end=True) | {"desirable": desirable}


def _row(record: dict[str, Any], columns: Columns) -> Fields:
    """A record with a row's own fields; optional ones may be missing."""
    fields = {name: text_of(record, columns, name) for name in ("input", "output")}
    fields |= {name: record[name] for name in NO_TEXT if isinstance(record.get(name), str)}
    for name in ("history", "untrained", "thoughts"):
        if fields.get(name) and not isinstance(json_of(fields[name], name), list):
            raise wrong_type(name, fields[name])
    return fields


SHAPES: dict[str, Callable[[dict[str, Any], Columns], Fields]] = {
    "row": _row,
    "alpaca": _alpaca,
    "sharegpt": partial(_dialogue, field="conversations", has_system=True),
    "messages": partial(_dialogue, field="messages", has_system=False),
    "prompt_completion": _prompt_completion,
    "text_label": _text_label,
    "preference": _preference,
    "kto": _kto,
    "text": lambda record, columns: {"output": text_of(record, columns, "text")},
    "conll": conll,
    "parallel": lambda record, columns: {
        "input": text_of(record, columns, "source"),
        "output": text_of(record, columns, "target"),
    },
}


def _pairs(earlier: Any, column: str) -> list[list[str]]:
    """Alpaca's history as turns."""
    turns = []
    for pair in list_of(earlier, column):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise wrong_type(column, pair)
        turns += [["user", pair[0]], ["assistant", pair[1]]]
    return turns
