"""The forms of rendered rows (tasks/dataset/forms.py): their rows, their inputs and their writers."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tasks.chat.writing import has_thought
from tasks.dataset.forms import FORMS
from tasks.dataset.rendered import TEST
from tasks.prompts.templates.conversation import TOOL_INSTRUCTIONS
from tasks.prompts.templates.templates import FamilyTemplates, InstructionTemplate
from tasks.prompts.tokens.tokens import Dropped, Example, Renderer
from tasks.render.row_store import Rows
from tasks.render.settings import RenderSettings
from tasks.runtime import process_pool
from tasks.runtime.files import write_tables
from tasks.scoring.thoughts import THOUGHT_ENDS

Row = dict[str, Any]
Job = TypeVar("Job")
Result = TypeVar("Result")

TEST_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("batch", pa.string()),
        ("source", pa.string()),
        ("use", pa.string()),  # "golden" or "train"
        ("family", pa.string()),
        ("kind", pa.string()),  # a kind of target (tasks/scoring/targets.py)
        ("language", pa.string()),
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("question", pa.string()),  # the last turn of the user; null where nothing is answered
        ("instruction", pa.string()),  # of the row, before the template; null where nothing is answered
        ("input", pa.string()),
        ("target", pa.string()),
        ("tests", pa.string()),  # Python that runs after an answer of code; "" or null without any
        ("stub", pa.string()),  # the code of the task that such an answer may continue
        ("template", pa.string()),
        ("before", pa.string()),  # what the template writes around the target
        ("after", pa.string()),
        (
            "opens_thought",
            pa.bool_(),
        ),  # the prompt ends in the tag that begins a thought; null where nothing is answered
    ]
)

FIXED = ("row_id", "batch", "source", "use", "family", "language")
"""The fields that a test row copies from its row."""


class Writer(Protocol):
    """The functions of such a module."""

    def write(self, form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
        """Writes data/rendered/<form> for "train" or "valid"; returns counts, `examples` and `tokens` among them."""

    def write_test(self, rows: Rows, material: Material) -> int:
        """Writes data/rendered/test.parquet, one row per question; returns their number."""


def writer_of(form: str) -> Writer:
    module: Any = importlib.import_module(f"tasks.render.forms.{FORMS[form].module}")
    writer: Writer = module
    return writer


def map_jobs(settings: RenderSettings, work: Callable[[Job], Result], jobs: Iterator[Job]) -> Iterator[Result]:
    """`work` of each job, in order, in `render.processes` processes."""
    return process_pool.map_in_processes(work, jobs, settings.processes, "render.processes")


@dataclass(frozen=True)
class Material:
    """The inputs of every writer, and its counts."""

    tokenizer: Any
    families: dict[str, FamilyTemplates]
    settings: RenderSettings
    counts: Counter[str]
    """Truncated examples ("cut"), examples with a thought minus those without (THINKING), and reason → dropped rows."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """Row id and reason of the rows dropped since the last `take_dropped`."""

    @cached_property
    def renderer(self) -> Renderer:
        settings = self.settings
        return Renderer(self.tokenizer, settings.max_length_tokens, all_turns=settings.train_on == "every")

    def choose(self, row: Mapping[str, Any]) -> InstructionTemplate:
        """The row's template."""
        return self.families[row["family"]].choose(row)

    def drop(self, row_id: str, reason: str) -> None:
        """Counts a row without an example."""
        self.counts[reason] += 1
        self.dropped.append((row_id, reason))

    def take_dropped(self) -> list[tuple[str, str]]:
        """The rows dropped since the last call."""
        dropped = self.dropped.copy()
        self.dropped.clear()
        return dropped

    def map_rows(self, rows: Rows, make: Callable[[list[Row]], Result]) -> Iterator[Result]:
        """`make` of the rows in portions, in order; in several processes where there are many rows."""

        def work(portion: pa.Table) -> tuple[Result, Counter[str], list[tuple[str, str]]]:
            counts, earlier = self.counts.copy(), self.take_dropped()
            self.counts.clear()
            result, counted, dropped = make(portion.to_pylist()), self.counts.copy(), self.take_dropped()
            self.counts.clear()
            self.counts.update(counts)
            self.dropped.extend(earlier)
            return result, counted, dropped

        for result, counted, dropped in map_jobs(self.settings, work, rows.portions()):
            self.counts.update(counted)
            self.dropped.extend(dropped)
            yield result

    def render(self, rows: list[Row], all_turns: bool | None = None) -> list[Example]:
        """The rows as examples; dropped rows are counted."""
        kept = []
        for result in self.renderer.render(rows, self.choose, all_turns):
            if isinstance(result, Dropped):
                self.drop(result.row_id, result.reason)
            else:
                self.count_kept(result)
                kept.append(result)
        return kept

    def count_kept(self, example: Example) -> None:
        self.counts["cut"] += example.was_cut
        # a template may write a whole thought of its own before an answer that has one in its text
        has_own = example.prompt.rstrip().endswith(THOUGHT_ENDS)
        self.counts[THINKING] += 1 if has_thought(example.conversation.messages[-1]) and not has_own else -1

    def as_dict(self) -> dict[str, Any]:
        """The settings of prompts, as stored with the model."""
        settings = {"max_length_tokens": self.settings.max_length_tokens}
        if not self.tokenizer.chat_template:
            return settings
        chat = self.renderer.chat
        return settings | {
            "chat_template": self.tokenizer.chat_template,
            "system": "its own turn" if chat.has_system else "in the first user turn",
            "tools": "by the chat template" if chat.has_tools else TOOL_INSTRUCTIONS,
            "train_on": self.settings.train_on,
            "thinking": chat.has_thinking_mode and self.counts[THINKING] > 0,
        }


def write_test_rows(
    rows: Rows, material: Material, make: Callable[[list[Row]], list[Row]], schema: pa.Schema = TEST_SCHEMA
) -> int:
    """Writes test.parquet, with the test rows (`schema`) that `make` makes of rows; returns their number."""
    tables = material.map_rows(rows, lambda portion: pa.Table.from_pylist(make(portion), schema))
    return write_tables(TEST, schema, tables)


def write_counted(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Writes a form that is a table; returns the counts of its examples and tokens (in its lists)."""
    tokens = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal tokens
        for table in tables:
            lists = [column for column in table.columns if pa.types.is_list(column.type)]
            tokens += sum(len(pc.list_flatten(column)) for column in lists)
            yield table

    return {"examples": write_tables(path, schema, counted()), "tokens": tokens}


THINKING = "thinking"


def is_of_form(form: str, rows: pa.Table, forms: tuple[str, ...], split: str) -> pa.ChunkedArray:
    """(rows,) is a row of `split` rendered in `form`, where `forms` are the forms of all trainings?

    An answer that was rated bad is neither trained nor a test target: only the form `judged` uses it. Raw text is trained as an
    answer without a prompt only where no training uses the form `texts`.
    """
    if split == "test" and FORMS[form].is_tested_by_answers:
        form = "answers"
    if form in ("pairs", "ranked"):
        return pc.not_equal(rows["rejected"], "")
    if form == "judged":
        return pc.not_equal(rows["desirable"], "")
    is_good = pc.not_equal(rows["desirable"], "false")
    if form != "texts" and "texts" not in forms:
        return is_good
    is_raw = pc.and_(pc.equal(rows["instruction"], ""), pc.equal(rows["input"], ""))
    is_raw = pc.and_(is_raw, pc.equal(rows["history"], "[]"))
    return is_raw if form == "texts" else pc.and_(is_good, pc.invert(is_raw))
