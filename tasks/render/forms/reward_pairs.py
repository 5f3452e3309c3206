"""Form `ranked`: pairs as in form `pairs`, for a reward model, which is also tested on pairs."""

from __future__ import annotations

import pyarrow as pa

from tasks.base.generation import answer_reader
from tasks.render.forms.answers import test_row
from tasks.render.forms.forms import TEST_SCHEMA, Material, Row, write_test_rows
from tasks.render.forms.pairs import IDS, pairs
from tasks.render.forms.pairs import write as write
from tasks.render.row_store import Rows

KIND = "preference"
PREFERENCE_SCHEMA = pa.schema([*TEST_SCHEMA, ("chosen_ids", IDS), ("rejected_ids", IDS)])
"""Whole sequences, prompt and answer; `target` is the chosen answer."""


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, one row per pair; returns their number."""
    decode = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> list[Row]:
        test_rows = []
        for example, pair in pairs(portion, material):
            shown = test_row(example, material.families, decode)
            prompt = pair["prompt_ids"]
            whole = {name: prompt + pair[name] for name in ("chosen_ids", "rejected_ids")}
            test_rows.append({**shown, "kind": KIND, "prompt_ids": prompt, **whole})
        return test_rows

    return write_test_rows(rows, material, make, PREFERENCE_SCHEMA)
