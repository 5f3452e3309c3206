"""Form `answers`: conversations whose answers are trained, packed; and the test rows that every model answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.base.generation import answer_reader
from tasks.dataset.rendered import TEST
from tasks.render.forms.forms import FIXED, TEST_SCHEMA, Material, Row
from tasks.render.packing.arrays import Gathered, flat
from tasks.render.row_store import Rows
from tasks.render.templates.conversation import Conversation
from tasks.render.templates.templates import FamilyTemplates
from tasks.render.tokens.tokens import Example
from tasks.runtime.files import write_tables
from tasks.scoring.answer_parsers import equal_json
from tasks.scoring.targets import parse_answer
from tasks.scoring.thoughts import THOUGHT_BEGINS, without_thought

Read = Callable[[Sequence[int]], str]


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    with Gathered(paths.RENDERED / form / split) as gathered:
        for some in material.made_of(rows, lambda portion: flat(material.rendered(portion))):
            gathered.add(some)
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, a row an answer: always the last, for the earlier ones were never judged; returns how many."""
    read = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> pa.Table:
        examples = material.rendered(portion, every=False)
        rows = [test_row(example, material.families, read) for example in examples]
        return pa.Table.from_pylist(rows, TEST_SCHEMA)

    return write_tables(TEST, TEST_SCHEMA, material.made_of(rows, make))


def test_row(example: Example, families: dict[str, FamilyTemplates], read: Read) -> dict[str, Any]:
    """What TEST_SCHEMA says of an answer that is asked for.

    Args:
        read: token ids → the answer, as a model's is read (tasks.base.generation.answer_reader).
    """
    conversation, frame = example.conversation, example.template.frame
    fixed = {name: example.row[name] for name in FIXED}
    shown = {"prompt": example.prompt, "prompt_ids": example.prompt_ids, "template": example.template.id}
    kind = _kind_of(conversation, families[example.row["family"]].kind)
    opens_thought = example.prompt.rstrip().endswith(THOUGHT_BEGINS)
    target = conversation.target
    if conversation.ends_in_call:
        answer = read(example.answer_ids)
        target = _calls_as_read(THOUGHT_BEGINS + answer if opens_thought else answer, target)
    framed = {"before": frame.before, "after": frame.after, "opens_thought": opens_thought}
    return {**fixed, "kind": kind, **shown, "target": target, **framed}


def _calls_as_read(written: str, target: str) -> str:
    """What an answer that calls tools is compared with: the calls, where those are read in what the chat template writes; else,
    as of templates that write them as XML, that text itself, or no answer would ever be right."""
    read = parse_answer("tool_calls", written)
    return target if equal_json(read, parse_answer("tool_calls", target)) else without_thought(written)


def _kind_of(conversation: Conversation, kind: str) -> str:
    """A dialogue may end in a call of a tool, and one about tools in words."""
    if conversation.ends_in_call:
        return "tool_calls"
    return "free" if kind == "tool_calls" and parse_answer(kind, conversation.target) is None else kind
