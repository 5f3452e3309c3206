"""Few-shot test rows (`evaluate.shots`): each test row with training rows of its family and language as earlier turns of the chat.

A row's examples depend on its id and on the training rows alone, so that they are the same for all models. `curate` has removed
training rows that share text with a test row. Too long prompts lose their first examples; with none, the row has its usual prompt.
"""

from __future__ import annotations

import json
from bisect import insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import pyarrow as pa

from tasks.base.convert import base_folder
from tasks.base.foreign import trusts
from tasks.base.generation import answer_reader
from tasks.base.pin import read_base
from tasks.dataset.rendered import SHOTS
from tasks.prompts.templates.fill_template import write_answer, write_question
from tasks.prompts.tokens.tokens import Dropped, Example, Renderer
from tasks.records.languages import language_of_last_turn
from tasks.render.forms.answers import test_row
from tasks.render.forms.forms import TEST_SCHEMA, Material, Row
from tasks.render.row_store import Rows
from tasks.runtime.files import canonical_json, content_digest, write_tables
from tasks.scoring.targets import tool_calls_of

POOL_ROWS = 64
"""Training rows of a family and language from which the examples of a test row are chosen."""
SCHEMA = TEST_SCHEMA.append(pa.field("shots", pa.int32()))
Pools = dict[tuple[str, str], list[Row]]


def write_shots(shots: int, answer_tokens: int, rows: Rows, training: Rows, material: Material) -> dict[str, int]:
    """Writes data/rendered/shots.parquet; returns its entry in the report.

    Args:
        answer_tokens: tokens of the context that a prompt leaves free.
        rows: the test rows.
    """
    pools = choose_pools(training.portions())
    longest = _longest(shots, answer_tokens, material.settings.max_length_tokens)
    renderer, decode = Renderer(material.tokenizer, longest), answer_reader(material.tokenizer)
    counts = {"shots": shots, "rows": 0, "fewer": 0}

    def make(portion: list[Row]) -> Iterator[dict[str, Any]]:
        usual = material.renderer.render(portion, material.choose, all_turns=False)
        more = renderer.render(
            [with_examples(row, examples_of(row, pools, shots), material) for row in portion], material.choose
        )
        for without, example in zip(usual, more, strict=True):
            if isinstance(without, Dropped):  # it is no test row
                continue
            number = 0 if isinstance(example, Dropped) else max(_answers(example) - _answers(without), 0)
            chosen = without if isinstance(example, Dropped) or not number else example
            counts["rows"] += 1
            counts["fewer"] += number < shots
            yield {**test_row(chosen, material.families, decode), "shots": number}

    tables = (pa.Table.from_pylist(list(make(part.to_pylist())), SCHEMA) for part in rows.portions())
    write_tables(SHOTS, SCHEMA, tables)
    return counts


def choose_pools(portions: Iterator[pa.Table]) -> Pools:
    """Family and language → the POOL_ROWS rows with the smallest ids, which are digests, of those that may be examples."""
    pools: defaultdict[tuple[str, str], list[tuple[str, Row]]] = defaultdict(list)
    for portion in portions:
        keys = zip(portion["family"].to_pylist(), portion["language"].to_pylist(), strict=True)
        for index, (row_id, key) in enumerate(zip(portion["row_id"].to_pylist(), keys, strict=True)):
            pool = pools[key]
            if len(pool) == POOL_ROWS and row_id > pool[-1][0]:
                continue
            (row,) = portion.slice(index, 1).to_pylist()
            if _may_be_example(row):
                insort(pool, (row_id, row), key=itemgetter(0))
                del pool[POOL_ROWS:]
    return {key: [row for _, row in pool] for key, pool in pools.items()}


def examples_of(row: Row, pools: Pools, shots: int) -> list[Row]:
    """The examples of a test row; fewer where its family has fewer."""
    question = row["instruction"], row["input"]
    pool = pools.get((row["family"], language_of_last_turn(row)), [])
    others = [other for other in pool if (other["instruction"], other["input"]) != question]
    return sorted(others, key=lambda other: content_digest([row["row_id"], other["row_id"]]))[:shots]


def with_examples(row: Row, examples: Sequence[Row], material: Material) -> Row:
    """The row with the examples as its first turns, all written by its own template."""
    template = material.choose(row)
    turns = [
        turn
        for example in examples
        for turn in (("user", write_question(template, example)), ("assistant", write_answer(template, example)))
    ]
    return {**row, "history": canonical_json([*turns, *json.loads(row["history"])])} if turns else row


def _may_be_example(row: Row) -> bool:
    has_question, is_single = bool(row["instruction"] or row["input"]), row["history"] == "[]" and not row["system"]
    is_good = row["desirable"] != "false" and bool(row["output"].strip())
    return has_question and is_single and is_good and not row["tools"] and tool_calls_of(row["output"]) is None


def _answers(example: Example) -> int:
    """The answers before the last."""
    return [message["role"] for message in example.conversation.messages].count("assistant") - 1


def _longest(shots: int, answer_tokens: int, max_length_tokens: int) -> int:
    """The most tokens of a row with examples: those of as many rows, within the context of the base."""
    from transformers import AutoConfig

    from tasks.base.heads import context_length_of

    folder = base_folder(read_base())
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trusts(folder))
    context, longest = context_length_of(config.get_text_config()), (shots + 1) * max_length_tokens
    return longest if context is None else max(1, min(longest, int(context) - answer_tokens))
