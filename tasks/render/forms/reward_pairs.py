"""Form `ranked`: pairs as in form `pairs`, for a reward model, which is also tested on pairs."""

from __future__ import annotations

import pyarrow as pa

from tasks.base.generation import answer_reader
from tasks.dataset.rendered import TEST
from tasks.render.forms.answers import test_row
from tasks.render.forms.forms import TEST_SCHEMA, Material, Row
from tasks.render.forms.pairs import IDS, pairs
from tasks.render.forms.pairs import write as write
from tasks.render.row_store import Rows
from tasks.runtime.files import write_tables

KIND = "preference"
PREFERENCE_SCHEMA = pa.schema([*TEST_SCHEMA, ("chosen_ids", IDS), ("rejected_ids", IDS)])
"""Whole sequences, prompt and answer; `target` is the chosen answer."""


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, one row per pair; returns their number."""
    decode = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        table = []
        for example, pair in pairs(portion, material):
            shown = test_row(example, material.families, decode)
            prompt = pair["prompt_ids"]
            whole = {name: prompt + pair[name] for name in ("chosen_ids", "rejected_ids")}
            table.append({**shown, "kind": KIND, "prompt_ids": prompt, **whole})
        return pa.Table.from_pylist(table, PREFERENCE_SCHEMA)

    return write_tables(TEST, PREFERENCE_SCHEMA, material.map_rows(rows, make))
