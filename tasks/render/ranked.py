"""Form `ranked`: pairs as in form `pairs`, for a model that scores answers; it is tested by pairs, too."""

from __future__ import annotations

import pyarrow as pa

from tasks.files import ParquetStream, replacing
from tasks.render.answers import test_row
from tasks.render.forms import TEST_SCHEMA, Material
from tasks.render.pairs import IDS, pairs
from tasks.render.pairs import write as write
from tasks.render.rows import Rows
from tasks.rendered import TEST

KIND = "preference"
PREFERENCE_SCHEMA = pa.schema([*TEST_SCHEMA, ("chosen_ids", IDS), ("rejected_ids", IDS)])
"""Whole sequences, the prompt in front of either answer; `target` is the better one."""


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, a row a pair; returns how many."""
    written = 0
    with replacing(TEST) as path, ParquetStream(path, PREFERENCE_SCHEMA) as stream:
        for portion in pairs(rows, material):
            table = []
            for example, pair in portion:
                shown = test_row(example, material.families)
                prompt = pair["prompt_ids"]
                whole = {name: prompt + pair[name] for name in ("chosen_ids", "rejected_ids")}
                table.append({**shown, "kind": KIND, "prompt_ids": prompt, **whole})
            stream.write(pa.Table.from_pylist(table, PREFERENCE_SCHEMA))
            written += len(table)
    return written
