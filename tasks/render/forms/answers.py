"""Form `answers`: packed conversations whose answers are trained; and the test rows that every model answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tasks import paths
from tasks.base.generation import answer_reader
from tasks.prompts.templates.conversation import Conversation
from tasks.prompts.templates.templates import FamilyTemplates
from tasks.prompts.tokens.tokens import Example
from tasks.render.forms.forms import FIXED, Material, Row, write_test_rows
from tasks.render.packing.arrays import ArrayWriter, flatten
from tasks.render.row_store import Rows
from tasks.scoring.answer_parsers import equal_json
from tasks.scoring.code_answers import stub_of
from tasks.scoring.read_answer import complete_answer, opens_thought
from tasks.scoring.targets import parse_answer
from tasks.scoring.thoughts import without_thought

Read = Callable[[Sequence[int]], str]


def write(form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
    """Writes the arrays of a split; returns their counts."""
    with ArrayWriter(paths.RENDERED / form / split) as gathered:
        for examples in material.map_rows(rows, lambda portion: flatten(material.render(portion))):
            gathered.add(examples)
        return gathered.write(material.settings.pack_length_tokens)


def write_test(rows: Rows, material: Material) -> int:
    """Writes test.parquet, one row per dialogue with its last answer, since earlier answers are not evaluated; returns their
    number."""
    decode = answer_reader(material.tokenizer)

    def make(portion: list[Row]) -> list[Row]:
        examples = material.render(portion, all_turns=False)
        return [test_row(example, material.families, decode) for example in examples]

    return write_test_rows(rows, material, make)


def test_row(example: Example, families: dict[str, FamilyTemplates], decode: Read) -> dict[str, Any]:
    """The test row (TEST_SCHEMA) of an example.

    Args:
        decode: token ids → the answer, as a model's is decoded (tasks.base.generation.answer_reader).
    """
    conversation, frame = example.conversation, example.template.frame
    fixed = {name: example.row[name] for name in FIXED}
    shown = {"prompt": example.prompt, "prompt_ids": example.prompt_ids, "template": example.template.id}
    kind = _kind_of(conversation, families[example.row["family"]].kind)
    is_in_thought = opens_thought(example.prompt)
    target = conversation.target
    if conversation.ends_in_call:
        answer = decode(example.answer_ids)
        target = _calls_as_read(complete_answer(answer, is_in_thought), target)
    question = next((m["content"] for m in reversed(conversation.messages) if m["role"] == "user"), "")
    tests = example.row["tests"] if kind == "code" else ""
    tested = {"tests": tests, "stub": tests and (stub_of(example.row["input"]) or stub_of(example.row["instruction"]))}
    framed = {"before": frame.before, "after": frame.after, "opens_thought": is_in_thought}
    texts = {"question": question, "instruction": example.row["instruction"], "input": example.row["input"]}
    return {**fixed, "kind": kind, **shown, **texts, "target": target, **tested, **framed}


def _calls_as_read(answer: str, target: str) -> str:
    """The target of an answer that calls tools: the calls, if they can be parsed from the text of the chat template; else, as for
    templates that write them as XML, that text itself, since no answer could match otherwise."""
    parsed = parse_answer("tool_calls", answer)
    return target if equal_json(parsed, parse_answer("tool_calls", target)) else without_thought(answer)


def _kind_of(conversation: Conversation, kind: str) -> str:
    """The kind of the target: a dialogue may end in a tool call, and a dialogue with tools in text."""
    if conversation.ends_in_call:
        return "tool_calls"
    return "free" if kind == "tool_calls" and parse_answer(kind, conversation.target) is None else kind
