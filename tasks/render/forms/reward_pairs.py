"""Form `ranked`: pairs as in form `pairs`, for a model that scores answers; it is tested by pairs, too."""

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
"""Whole sequences, the prompt in front of either answer; `target` is the better one."""


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, a row a pair; returns how many."""
    read = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        table = []
        for example, pair in pairs(portion, material):
            shown = test_row(example, material.families, read)
            prompt = pair["prompt_ids"]
            whole = {name: prompt + pair[name] for name in ("chosen_ids", "rejected_ids")}
            table.append({**shown, "kind": KIND, "prompt_ids": prompt, **whole})
        return pa.Table.from_pylist(table, PREFERENCE_SCHEMA)

    return write_tables(TEST, PREFERENCE_SCHEMA, material.made_of(rows, make))
