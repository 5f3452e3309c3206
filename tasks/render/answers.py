"""Form `answers`: conversations whose answers are trained, packed; and the test rows that every model answers."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.files import ParquetStream, replacing
from tasks.render.arrays import Gathered
from tasks.render.conversation import Conversation
from tasks.render.forms import FIXED, TEST_SCHEMA, Material
from tasks.render.rows import Rows
from tasks.render.templates import FamilyTemplates
from tasks.render.tokens import Example
from tasks.rendered import TEST
from tasks.targets import read_target


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    with Gathered(paths.RENDERED / form / split) as gathered:
        for examples in material.rendered(rows):
            gathered.add(examples)
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, a row an answer: always the last, for the earlier ones were never judged; returns how many."""
    written = 0
    with replacing(TEST) as path, ParquetStream(path, TEST_SCHEMA) as stream:
        for examples in material.rendered(rows, every=False):
            table = [test_row(example, material.families) for example in examples]
            stream.write(pa.Table.from_pylist(table, TEST_SCHEMA))
            written += len(table)
    return written


def test_row(example: Example, families: dict[str, FamilyTemplates]) -> dict[str, Any]:
    """What TEST_SCHEMA says of an answer that is asked for."""
    conversation, frame = example.conversation, example.template.frame
    fixed = {name: example.row[name] for name in FIXED}
    shown = {"prompt": example.prompt, "prompt_ids": example.prompt_ids, "template": example.template.id}
    kind = _kind_of(conversation, families[example.row["family"]].kind)
    return {**fixed, "kind": kind, **shown, "target": conversation.target, "before": frame.before, "after": frame.after}


def _kind_of(conversation: Conversation, kind: str) -> str:
    """A dialogue may end in a call of a tool, and one about tools in words."""
    if conversation.ends_in_call:
        return "tool_calls"
    return "free" if kind == "tool_calls" and read_target(kind, conversation.target) is None else kind
