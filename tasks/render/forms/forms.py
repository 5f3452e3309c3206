"""The forms that rows are rendered in (tasks/dataset/rendered.py): the rows, the material and the writer of each."""

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
from tasks.render.row_store import Rows
from tasks.render.settings import RenderSettings
from tasks.render.templates.conversation import TOOLS_SAID
from tasks.render.templates.templates import FamilyTemplates, InstructionTemplate
from tasks.render.tokens.tokens import Dropped, Example, Renderer
from tasks.runtime import process_pool
from tasks.runtime.files import write_tables

Row = dict[str, Any]
Job = TypeVar("Job")
Made = TypeVar("Made")

TEST_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("batch", pa.string()),
        ("family", pa.string()),
        ("kind", pa.string()),  # a kind of target (tasks/scoring/targets.py)
        ("language", pa.string()),
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("target", pa.string()),
        ("template", pa.string()),
        ("before", pa.string()),  # what the template writes around the target
        ("after", pa.string()),
        (
            "opens_thought",
            pa.bool_(),
        ),  # the prompt ends in the tag that begins a thought; null where nothing is answered
    ]
)

FIXED = ("row_id", "batch", "family", "language")
"""What a test row takes over from its row."""

MODULES = {
    "answers": "answers",
    "texts": "texts",
    "labels": "labels",
    "pairs": "pairs",
    "ranked": "reward_pairs",
    "judged": "pairs",
    "prompts": "prompts",
}
"""Form → the module of this folder that writes it."""


class Writer(Protocol):
    """What such a module has."""

    def write(self, form: str, split: str, rows: Rows, material: Material) -> dict[str, Any]:
        """Writes data/rendered/<form> for "train" or "valid"; returns counts, `examples` and `tokens` among them."""

    def write_test(self, rows: Rows, material: Material) -> int:
        """Writes data/rendered/test.parquet, a row a question; returns how many."""


def writer_of(form: str) -> Writer:
    module: Any = importlib.import_module(f"tasks.render.forms.{MODULES[form]}")
    writer: Writer = module
    return writer


def shared_out(settings: RenderSettings, work: Callable[[Job], Made], jobs: Iterator[Job]) -> Iterator[Made]:
    """`work` of each job, in order, by as many processes as the settings say."""
    return process_pool.map_in_processes(work, jobs, settings.processes, "render.processes")


@dataclass(frozen=True)
class Material:
    """What every form is written with."""

    tokenizer: Any
    families: dict[str, FamilyTemplates]
    settings: RenderSettings
    counts: Counter[str]
    """Examples that were cut ("cut"), those that think more than others (THINKING), and rows that were dropped, by reason."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """Of those since the last look: row id and reason."""

    @cached_property
    def renderer(self) -> Renderer:
        settings = self.settings
        return Renderer(self.tokenizer, settings.max_length_tokens, every=settings.train_on == "every")

    def choose(self, row: Mapping[str, Any]) -> InstructionTemplate:
        """The template by which the row is said."""
        return self.families[row["family"]].choose(row)

    def drop(self, row_id: str, reason: str) -> None:
        """Counts a row of which no example is made."""
        self.counts[reason] += 1
        self.dropped.append((row_id, reason))

    def take_dropped(self) -> list[tuple[str, str]]:
        """Those since the last look."""
        dropped = self.dropped.copy()
        self.dropped.clear()
        return dropped

    def made_of(self, rows: Rows, make: Callable[[list[Row]], Made]) -> Iterator[Made]:
        """`make` of the rows, a portion at a time, in order: by several processes where there are many."""

        def work(portion: pa.Table) -> tuple[Made, Counter[str], list[tuple[str, str]]]:
            counts, before = self.counts.copy(), self.take_dropped()
            self.counts.clear()
            made, found, dropped = make(portion.to_pylist()), self.counts.copy(), self.take_dropped()
            self.counts.clear()
            self.counts.update(counts)
            self.dropped.extend(before)
            return made, found, dropped

        for made, found, dropped in shared_out(self.settings, work, rows.portions()):
            self.counts.update(found)
            self.dropped.extend(dropped)
            yield made

    def rendered(self, rows: list[Row], every: bool | None = None) -> list[Example]:
        """The rows as conversations; what is dropped is counted."""
        kept = []
        for result in self.renderer.render(rows, self.choose, every):
            if isinstance(result, Dropped):
                self.drop(result.row_id, result.reason)
            else:
                self.count_kept(result)
                kept.append(result)
        return kept

    def count_kept(self, example: Example) -> None:
        self.counts["cut"] += example.was_cut
        self.counts[THINKING] += 1 if has_thought(example.conversation.messages[-1]) else -1

    def told(self) -> dict[str, Any]:
        """How conversations are written around what the instruction templates say; it travels with the model."""
        longest = {"max_length_tokens": self.settings.max_length_tokens}
        if not self.tokenizer.chat_template:
            return longest
        chat = self.renderer.chat
        return longest | {
            "chat_template": self.tokenizer.chat_template,
            "system": "its own turn" if chat.has_system else "in the first user turn",
            "tools": "by the chat template" if chat.has_tools else TOOLS_SAID,
            "train_on": self.settings.train_on,
            "thinking": chat.has_thinking_mode and self.counts[THINKING] > 0,
        }


def write_counted(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Writes a form that is kept as a table; returns how many examples and tokens (in its lists) it holds."""
    tokens = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal tokens
        for table in tables:
            lists = [column for column in table.columns if pa.types.is_list(column.type)]
            tokens += sum(len(pc.list_flatten(column)) for column in lists)
            yield table

    return {"examples": write_tables(path, schema, counted()), "tokens": tokens}


THINKING = "thinking"

SPEAKING = ("pairs", "judged", "prompts")
"""Forms that teach a model to answer: it is tested by what it answers, on every test row."""


def rows_of_form(form: str, rows: pa.Table, forms: tuple[str, ...], split: str) -> pa.Table:
    """The rows of `split` that are rendered in `form`, where all of `forms` are.

    An answer that was judged bad is none to learn or to be scored by: only `judged` shows it. Raw text is learned as an answer to
    nothing only where no training learns it as text.
    """
    return rows.filter(is_of_form(form, rows, forms, split))


def is_of_form(form: str, rows: pa.Table, forms: tuple[str, ...], split: str) -> pa.ChunkedArray:
    """Whether each row is one of them: boolean."""
    if split == "test" and form in SPEAKING:
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
