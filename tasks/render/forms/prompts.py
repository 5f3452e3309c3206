"""Form `prompts`: prompts and the targets that a model's own answers are scored against; one row each."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.base.generation import answer_reader
from tasks.render.forms.answers import test_row
from tasks.render.forms.answers import write_test as write_test
from tasks.render.forms.forms import TEST_SCHEMA, Material, Row, write_counted
from tasks.render.row_store import Rows

SCHEMA = pa.schema(
    [
        TEST_SCHEMA.field(name)
        for name in ("row_id", "family", "kind", "prompt_ids", "target", "before", "after", "opens_thought")
    ]
)


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes data/rendered/prompts/<split>.parquet; returns the counts of its examples and tokens.

    Of a dialogue, only the last answer is generated.
    """

    decode = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        examples = material.render(portion, all_turns=False)
        return pa.Table.from_pylist([test_row(example, material.families, decode) for example in examples], SCHEMA)

    return write_counted(paths.RENDERED / form / f"{split}.parquet", SCHEMA, material.map_rows(rows, make))
