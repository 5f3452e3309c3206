"""Form `prompts`: what a model is asked, and what its own answer to it is scored against; a row each."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.files import ParquetStream, replacing
from tasks.render.answers import test_row
from tasks.render.answers import write_test as write_test
from tasks.render.forms import TEST_SCHEMA, Material
from tasks.render.rows import Rows

SCHEMA = pa.schema(
    [TEST_SCHEMA.field(name) for name in ("row_id", "family", "kind", "prompt_ids", "target", "before", "after")]
)


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes data/rendered/prompts/<split>.parquet; returns how many examples and tokens it holds.

    A dialogue is asked for its last answer alone.
    """
    folder = paths.RENDERED / form
    counts = {"examples": 0, "tokens": 0}
    with replacing(folder / f"{split}.parquet") as path, ParquetStream(path, SCHEMA) as stream:
        for examples in material.rendered(rows, every=False):
            table = [test_row(each, material.families) for each in examples]
            stream.write(pa.Table.from_pylist(table, SCHEMA))
            counts["examples"] += len(table)
            counts["tokens"] += sum(len(row["prompt_ids"]) for row in table)
    return counts
