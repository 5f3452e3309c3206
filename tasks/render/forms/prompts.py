"""Form `prompts`: what a model is asked, and what its own answer to it is scored against; a row each."""

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
        for name in ("row_id", "family", "kind", "prompt_ids", "target", "before", "after", "opens_thought")
    ]
)


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes data/rendered/prompts/<split>.parquet; returns how many examples and tokens it holds.

    A dialogue is asked for its last answer alone.
    """

    if plugins := loaded_plugins(
        "render"
    ):  # a metric of theirs may be the reward: `finetune` runs again after a change
        write_json(paths.RENDERED / form / "plugins.json", {plugin.name: plugin.digest for plugin in plugins})
    read = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        examples = material.rendered(portion, every=False)
        return pa.Table.from_pylist([test_row(each, material.families, read) for each in examples], SCHEMA)

    return write_counted(paths.RENDERED / form / f"{split}.parquet", SCHEMA, material.made_of(rows, make))
