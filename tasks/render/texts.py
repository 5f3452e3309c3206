"""Form `texts`: raw text, every token of it trained. A long text becomes several pieces; nothing of it is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import paths
from tasks.files import write_parquet
from tasks.render.arrays import Gathered, Piece
from tasks.render.forms import CHUNK_ROWS, TEST_SCHEMA, Material
from tasks.render.words import Ids
from tasks.rendered import TEST

KIND = "text"


def write(form: str, split: str, rows: pa.Table, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    length = material.settings.max_length_tokens
    with Gathered(paths.RENDERED / form / split) as gathered:
        for portion in _encoded(rows, material):
            gathered.add(
                [
                    Piece(row_id, ids[start : start + length], np.ones(min(length, len(ids) - start), np.uint8))
                    for row_id, ids in portion
                    for start in range(0, len(ids), length)
                ]
            )
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: pa.Table, material: Material) -> int:
    """Writes test.parquet, a row a text: how likely a model finds it, is its score."""
    fixed = {row["row_id"]: row for row in rows.select(["row_id", "batch", "family", "language", "output"]).to_pylist()}
    table = []
    for portion in _encoded(rows, material):
        for row_id, ids in portion:
            row = fixed[row_id]
            told = {"kind": KIND, "prompt": "", "template": "", "before": "", "after": "", "target": row["output"]}
            table.append({**row, **told, "prompt_ids": ids.tolist()})
    write_parquet(TEST, pa.Table.from_pylist(table, TEST_SCHEMA))
    return len(table)


def _encoded(rows: pa.Table, material: Material) -> Iterator[list[tuple[str, Ids]]]:
    """Row ids and tokens, the end token last, a portion at a time."""
    end = material.tokenizer.eos_token_id
    for chunk in rows.select(["row_id", "output"]).to_batches(max_chunksize=CHUNK_ROWS):
        encoded = material.tokenizer(chunk["output"].to_pylist(), add_special_tokens=False)["input_ids"]
        yield [
            (row_id, np.array([*ids, end], np.int32))
            for row_id, ids in zip(chunk["row_id"].to_pylist(), encoded, strict=True)
        ]
        material.progress.advance(chunk.num_rows)
