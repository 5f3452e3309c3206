"""Forms `pairs` (a prompt, a better and a worse answer) and `judged` (a prompt, an answer that is good or bad): a row each.

Prompts and answers are the tokens that form `answers` would give, end tokens too. Both answers of a pair follow the same prompt.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.render.forms.answers import write_test as write_test
from tasks.render.forms.forms import Material, Row, write_counted
from tasks.render.row_store import Rows
from tasks.render.tokens.tokens import Dropped, Example

IDS = pa.list_(pa.int32())
SCHEMAS = {
    "pairs": pa.schema([("row_id", pa.string()), ("prompt_ids", IDS), ("chosen_ids", IDS), ("rejected_ids", IDS)]),
    "judged": pa.schema([("row_id", pa.string()), ("prompt_ids", IDS), ("answer_ids", IDS), ("desirable", pa.bool_())]),
}
SAME = "same_answers"
"""Why a pair is dropped whose answers are the same tokens: it prefers nothing."""

Pair = tuple[Example, Row]
"""The better answer, and the row of the pair."""


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes data/rendered/<form>/<split>.parquet; returns how many examples and tokens it holds."""
    schema = SCHEMAS["judged" if form == "judged" else "pairs"]

    def make(portion: list[Row]) -> pa.Table:
        made = _judged(portion, material) if form == "judged" else [row for _, row in pairs(portion, material)]
        return pa.Table.from_pylist(made, schema)

    return write_counted(paths.RENDERED / form / f"{split}.parquet", schema, material.made_of(rows, make))


def pairs(better: list[Row], material: Material) -> list[Pair]:
    """The pairs of the rows; what is dropped is counted once, whichever of its answers is to blame."""
    worse = [_worse(row) for row in better]
    rendered = material.renderer.render([*better, *worse], material.choose, every=False)
    kept = []
    for chosen, rejected in zip(rendered[: len(better)], rendered[len(better) :], strict=True):
        if isinstance(chosen, Dropped) or isinstance(rejected, Dropped):
            first = next(one for one in (chosen, rejected) if isinstance(one, Dropped))
            material.drop(first.row_id, first.reason)
        elif chosen.answer_ids == rejected.answer_ids:
            material.drop(chosen.row_id, SAME)
        else:
            material.count_kept(chosen if chosen.was_cut else replace(chosen, was_cut=rejected.was_cut))
            kept.append((chosen, _pair(chosen, rejected)))
    return kept


def _worse(row: Row) -> Row:
    """The row with the worse answer as its output, and that answer's thought as its last."""
    thoughts = row.get("thoughts")
    if thoughts:
        kept = [[-1 if place == 0 else place, text] for place, text in json.loads(thoughts) if place != -1]
        thoughts = json.dumps(kept, ensure_ascii=False)
    return {**row, "output": row["rejected"], "thoughts": thoughts or ""}


def _pair(chosen: Example, rejected: Example) -> Row:
    """The longer answer may have left less room for its prompt: that prompt is then both answers'. Where one answer thinks, that is
    all that its prompt lacks of the other's: an empty thought, which then belongs to the answer that does not think."""
    prompt = min(chosen.prompt_ids, rejected.prompt_ids, key=len)
    answers = {
        name: (each.prompt_ids[len(prompt) :] if each.prompt_ids[: len(prompt)] == prompt else []) + each.answer_ids
        for name, each in (("chosen_ids", chosen), ("rejected_ids", rejected))
    }
    return {"row_id": chosen.row_id, "prompt_ids": prompt, **answers}


def _judged(rows: list[Row], material: Material) -> list[Row]:
    return [
        {
            "row_id": example.row_id,
            "prompt_ids": example.prompt_ids,
            "answer_ids": example.answer_ids,
            "desirable": example.row["desirable"] == "true",
        }
        for example in material.rendered(rows, every=False)
    ]
