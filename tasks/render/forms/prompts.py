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
from tasks.runtime.files import write_json
from tasks.runtime.plugins import loaded_plugins

SCHEMA = pa.schema(
    [
        TEST_SCHEMA.field(name)
        for name in (
            *("row_id", "family", "kind", "prompt_ids", "question", "target", "tests", "stub"),
            *("before", "after", "opens_thought"),
        )
    ]
)


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes data/rendered/prompts/<split>.parquet; returns the counts of its examples and tokens.

    Of a dialogue, only the last answer is generated.
    """

    if plugins := loaded_plugins("render"):  # a plugin's metric may be the reward: `finetune` runs again after a change
        write_json(paths.RENDERED / form / "plugins.json", {plugin.name: plugin.digest for plugin in plugins})
    decode = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        examples = material.render(portion, all_turns=False)
        return pa.Table.from_pylist([test_row(example, material.families, decode) for example in examples], SCHEMA)

    return write_counted(paths.RENDERED / form / f"{split}.parquet", SCHEMA, material.map_rows(rows, make))
