"""Forms `pairs` (a prompt, a chosen and a rejected answer) and `judged` (a prompt, an answer rated good or bad); one row each.

Prompts and answers have the tokens of form `answers`, end tokens included. Both answers of a pair have the same prompt.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.prompts.tokens.tokens import Dropped, Example
from tasks.render.forms.answers import write_test as write_test
from tasks.render.forms.forms import Material, Row, write_counted
from tasks.render.row_store import Rows

IDS = pa.list_(pa.int32())
SCHEMAS = {
    "pairs": pa.schema([("row_id", pa.string()), ("prompt_ids", IDS), ("chosen_ids", IDS), ("rejected_ids", IDS)]),
    "judged": pa.schema([("row_id", pa.string()), ("prompt_ids", IDS), ("answer_ids", IDS), ("desirable", pa.bool_())]),
}
SAME = "same_answers"
"""The reason of a dropped pair whose answers have the same tokens."""

Pair = tuple[Example, Row]
"""The chosen answer, and the row of the pair."""


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes data/rendered/<form>/<split>.parquet; returns the counts of its examples and tokens."""
    schema = SCHEMAS["judged" if form == "judged" else "pairs"]

    def make(portion: list[Row]) -> pa.Table:
        examples = _judged(portion, material) if form == "judged" else [row for _, row in pairs(portion, material)]
        return pa.Table.from_pylist(examples, schema)

    return write_counted(paths.RENDERED / form / f"{split}.parquet", schema, material.map_rows(rows, make))


def pairs(rows: list[Row], material: Material) -> list[Pair]:
    """The pairs of the rows; a dropped pair is counted once, whichever of its answers is the cause."""
    rejected_rows = [_with_rejected(row) for row in rows]
    render = material.renderer.render([*rows, *rejected_rows], material.choose, all_turns=False)
    kept = []
    for chosen, rejected in zip(render[: len(rows)], render[len(rows) :], strict=True):
        if isinstance(chosen, Dropped) or isinstance(rejected, Dropped):
            first = next(answer for answer in (chosen, rejected) if isinstance(answer, Dropped))
            material.drop(first.row_id, first.reason)
        elif chosen.answer_ids == rejected.answer_ids:
            material.drop(chosen.row_id, SAME)
        else:
            material.count_kept(chosen if chosen.was_cut else replace(chosen, was_cut=rejected.was_cut))
            kept.append((chosen, _pair(chosen, rejected)))
    return kept


def _with_rejected(row: Row) -> Row:
    """The row with the rejected answer as its output, and that answer's thought as its last one."""
    thoughts = row.get("thoughts")
    if thoughts:
        # index -1 is the thought of the chosen answer, 0 that of the rejected one
        kept = [[-1 if index == 0 else index, text] for index, text in json.loads(thoughts) if index != -1]
        thoughts = json.dumps(kept, ensure_ascii=False)
    return {**row, "output": row["rejected"], "thoughts": thoughts or ""}


def _pair(chosen: Example, rejected: Example) -> Row:
    """The row of a pair. If a longer answer truncated its prompt, both answers get this prompt. If only one answer has a thought,
    its prompt lacks the empty thought of the other prompt, which then becomes part of the other answer."""
    prompt = min(chosen.prompt_ids, rejected.prompt_ids, key=len)
    answers = {
        name: (answer.prompt_ids[len(prompt) :] if answer.prompt_ids[: len(prompt)] == prompt else [])
        + answer.answer_ids
        for name, answer in (("chosen_ids", chosen), ("rejected_ids", rejected))
    }
    return {"row_id": chosen.row_id, "prompt_ids": prompt, **answers}


def _judged(rows: list[Row], material: Material) -> list[Row]:
    examples = material.render(rows, all_turns=False)
    columns = ("row_id", "prompt_ids", "answer_ids")
    return [
        {name: getattr(example, name) for name in columns} | {"desirable": example.row["desirable"] == "true"}
        for example in examples
    ]
