"""Room `render`: curated rows × instruction templates → token ids, loss mask and packed rows. Run: `python -m tasks render`"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.materialise import base_folder
from tasks.base.resolve import read_base
from tasks.dataset import read_dataset
from tasks.errors import ConfigError, DataError
from tasks.files import ParquetStream, replacing, write_json
from tasks.progress import Progress, track
from tasks.render.arrays import Gathered
from tasks.render.balance import balance
from tasks.render.conversation import TOOLS_SAID, Conversation
from tasks.render.templates import FamilyTemplates, InstructionTemplate, read_templates
from tasks.render.tokens import Dropped, Example, Renderer
from tasks.rendered import TEMPLATES, TEST
from tasks.targets import read_target

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

CHUNK_ROWS = 1024
COLUMNS = ["row_id", "family", "language", "system", "history", "instruction", "input", "output", "tools"]
"""What rendering looks at."""

TEST_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("batch", pa.string()),
        ("family", pa.string()),
        ("kind", pa.string()),
        ("language", pa.string()),
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("target", pa.string()),
        ("template", pa.string()),
        ("before", pa.string()),  # what the template writes around the target
        ("after", pa.string()),
    ]
)


def run(config: PipelineConfig) -> None:
    """Writes data/rendered (train/, valid/, test.parquet, templates.json) and data/reports/render.json.

    Raises:
        ConfigError: a template is wrong, or a family has none.
        DataError: nothing is left to train on or to judge by, or a classification has one class only.
    """
    settings = config.render
    dataset = read_dataset()
    families = read_templates()
    _require_templates(dataset, families)
    _require_classes(dataset, families)
    tokenizer = load_tokenizer(base_folder(read_base()), config.base.chat_template)
    renderer = Renderer(tokenizer, settings.max_length_tokens, every=settings.train_on == "every")

    shutil.rmtree(paths.RENDERED, ignore_errors=True)
    paths.RENDERED.mkdir(parents=True)
    counts: Counter[str] = Counter()
    report: dict[str, Any] = {"splits": {}}
    with track("render", total=dataset.num_rows, unit="rows") as progress:
        for split in ("train", "valid"):
            rows = dataset.filter(pc.equal(dataset["split"], split))
            if split == "train":
                places, report["left_out"] = balance(rows, settings.balance, settings.max_synthetic_share)
                rows = rows.take(pa.array(places))
            with Gathered(paths.RENDERED / split) as gathered:
                for examples in _rendered(renderer, families, rows, counts, progress):
                    gathered.add(examples)
                report["splits"][split] = gathered.write(settings.pack_length_tokens)
        rows = dataset.filter(pc.equal(dataset["split"], "test"))
        report["splits"]["test"] = {"examples": _write_test(renderer, families, rows, counts, progress)}
    used = {family: families[family].told() for family in sorted(pc.unique(dataset["family"]).to_pylist())}
    write_json(TEMPLATES, {"families": used, **_how(renderer, settings.train_on)})
    report["cut"] = counts.pop("cut", 0)
    report["dropped"] = dict(counts)
    write_json(paths.RENDER_REPORT, report)
    _require_examples(report)


def _rendered(
    renderer: Renderer,
    families: dict[str, FamilyTemplates],
    rows: pa.Table,
    counts: Counter[str],
    progress: Progress,
    every: bool | None = None,
) -> Iterator[list[Example]]:
    """The examples of the rows, a portion at a time; what is dropped is counted."""

    def choose(row: Mapping[str, Any]) -> InstructionTemplate:
        return families[row["family"]].choose(row)

    for chunk in rows.select(COLUMNS).to_batches(max_chunksize=CHUNK_ROWS):
        kept = []
        for result in renderer.render(chunk.to_pylist(), choose, every):
            if isinstance(result, Dropped):
                counts[result.reason] += 1
            else:
                counts["cut"] += result.was_cut
                kept.append(result)
        yield kept
        progress.advance(chunk.num_rows)


def _write_test(
    renderer: Renderer, families: dict[str, FamilyTemplates], rows: pa.Table, counts: Counter[str], progress: Progress
) -> int:
    """Writes test.parquet, a row an answer: always the last, for the earlier ones were never judged; returns how many."""
    fixed = rows.select(["row_id", "batch", "family", "language"]).to_pylist()
    by_id = {row["row_id"]: row for row in fixed}
    written = 0
    with replacing(TEST) as path, ParquetStream(path, TEST_SCHEMA) as stream:
        for examples in _rendered(renderer, families, rows, counts, progress, every=False):
            table = [_test_row(example, by_id[example.row_id], families) for example in examples]
            stream.write(pa.Table.from_pylist(table, TEST_SCHEMA))
            written += len(table)
    return written


def _test_row(example: Example, row: Mapping[str, Any], families: dict[str, FamilyTemplates]) -> dict[str, Any]:
    conversation, frame = example.conversation, example.template.frame
    shown = {"prompt": example.prompt, "prompt_ids": example.prompt_ids, "template": example.template.id}
    kind = _kind_of(conversation, families[row["family"]].kind)
    return {**row, "kind": kind, **shown, "target": conversation.target, "before": frame.before, "after": frame.after}


def _kind_of(conversation: Conversation, kind: str) -> str:
    """A dialogue may end in a call of a tool, and one about tools in words."""
    if conversation.ends_in_call:
        return "tool_calls"
    return "free" if kind == "tool_calls" and read_target(kind, conversation.target) is None else kind


def _how(renderer: Renderer, train_on: str) -> dict[str, Any]:
    """How conversations are written around what the instruction templates say; it travels with the model."""
    chat = renderer.chat
    return {
        "chat_template": renderer.tokenizer.chat_template,
        "system": "its own turn" if chat.has_system else "in the first user turn",
        "tools": "by the chat template" if chat.has_tools else TOOLS_SAID,
        "train_on": train_on,
    }


def _require_templates(dataset: pa.Table, families: dict[str, FamilyTemplates]) -> None:
    missing = sorted(set(pc.unique(dataset["family"]).to_pylist()) - set(families))
    if missing:
        raise ConfigError(
            f"no templates for the family {', '.join(missing)}; there are {', '.join(families)}",
            where=str(paths.TEMPLATES),
            fix=f"Write {paths.TEMPLATES}/{missing[0]}.yaml, or mend `family` of the source in params.yaml",
        )


def _require_classes(dataset: pa.Table, families: dict[str, FamilyTemplates]) -> None:
    for family in pc.unique(dataset["family"]).to_pylist():
        rows = dataset.filter(pc.equal(dataset["family"], family))
        labels = pc.unique(rows["output"]).to_pylist()
        if families[family].kind == "classification" and len(labels) == 1:
            raise DataError(
                f"family {family} has one class only ({labels[0]!r}, {rows.num_rows} rows): there is nothing to tell apart",
                where=str(paths.CURATED),
                fix="Add a source with the other classes, or mend `columns: {label: …}` of its source in params.yaml",
            )


def _require_examples(report: dict[str, Any]) -> None:
    for split in ("train", "test"):
        if not report["splits"][split]["examples"]:
            raise DataError(
                f"no {split} row fits into render.max_length_tokens (dropped: {report['dropped']})",
                where=str(paths.RENDERED),
                fix="Raise render.max_length_tokens in params.yaml",
            )
