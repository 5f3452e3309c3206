"""Room `render`: curated rows × instruction templates → token ids, loss mask and packed rows. Run: `python -m tasks render`"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.materialise import base_folder
from tasks.base.resolve import read_base
from tasks.dataset import read_dataset
from tasks.errors import ConfigError, DataError
from tasks.files import write_json, write_parquet
from tasks.progress import Progress, track
from tasks.render.balance import balance
from tasks.render.packing import pack
from tasks.render.templates import FamilyTemplates, InstructionTemplate, read_templates
from tasks.render.tokens import Dropped, Example, Renderer
from tasks.rendered import TEST

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

CHUNK_ROWS = 4096

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
    ]
)


def run(config: PipelineConfig) -> None:
    """Writes data/rendered (train/, valid/, test.parquet) and data/reports/render.json.

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
    renderer = Renderer(tokenizer, settings.max_length_tokens)

    shutil.rmtree(paths.RENDERED, ignore_errors=True)
    counts: Counter[str] = Counter()
    report: dict[str, Any] = {"splits": {}}
    with track("render", total=dataset.num_rows, unit="rows") as progress:
        for split in ("train", "valid", "test"):
            rows = dataset.filter(pc.equal(dataset["split"], split))
            if split == "train":
                places, report["left_out"] = balance(rows, settings.balance, settings.max_synthetic_share)
                rows = rows.take(pa.array(places))
            examples = _render_rows(renderer, families, rows, counts, progress)
            if split == "test":
                _write_test(examples, rows, families)
                report["splits"][split] = {"examples": len(examples)}
            else:
                report["splits"][split] = _write_packed(paths.RENDERED / split, examples, settings.pack_length_tokens)
    report["cut"] = counts.pop("cut", 0)
    report["dropped"] = dict(counts)
    write_json(paths.RENDER_REPORT, report)
    _require_examples(report)


def _render_rows(
    renderer: Renderer, families: dict[str, FamilyTemplates], rows: pa.Table, counts: Counter[str], progress: Progress
) -> list[Example]:
    def choose(row: Mapping[str, Any]) -> InstructionTemplate:
        return families[row["family"]].choose(row)

    kept = []
    for chunk in rows.to_batches(max_chunksize=CHUNK_ROWS):
        for result in renderer.render(chunk.to_pylist(), choose):
            if isinstance(result, Dropped):
                counts[result.reason] += 1
            else:
                counts["cut"] += result.was_cut
                kept.append(result)
        progress.advance(chunk.num_rows)
    return kept


def _write_packed(folder: Path, examples: list[Example], pack_length_tokens: int) -> dict[str, Any]:
    """Writes the arrays that tasks/rendered.py describes, and returns their counts."""
    rows = pack([len(example) for example in examples], pack_length_tokens)
    ordered = [examples[index] for row in rows for index in row]
    ids = np.fromiter((t for e in ordered for part in (e.prompt_ids, e.answer_ids) for t in part), np.int32)
    mask = np.fromiter((bit for e in ordered for bit in [0] * len(e.prompt_ids) + [1] * len(e.answer_ids)), np.uint8)
    bounds = np.cumsum([0, *(len(e) for e in ordered)], dtype=np.int64)
    packs = np.repeat(np.arange(len(rows), dtype=np.int64), [len(row) for row in rows])
    folder.mkdir(parents=True)
    for name, array in (("input_ids", ids), ("loss_mask", mask), ("examples", bounds), ("packs", packs)):
        np.save(folder / f"{name}.npy", array)
    return {
        "examples": len(ordered),
        "packed_rows": len(rows),
        "tokens": int(bounds[-1]),
        "answer_tokens": int(mask.sum()),
        "padding_share": round(1 - int(bounds[-1]) / (len(rows) * pack_length_tokens), 4) if rows else 0.0,
    }


def _write_test(examples: list[Example], rows: pa.Table, families: dict[str, FamilyTemplates]) -> None:
    by_id = {row["row_id"]: row for row in rows.select(["row_id", "batch", "family", "language", "output"]).to_pylist()}
    table = []
    for example in examples:
        row = by_id[example.row_id]
        shown = {"prompt": example.prompt, "prompt_ids": example.prompt_ids, "target": row.pop("output")}
        table.append({**row, "kind": families[row["family"]].kind, **shown})
    write_parquet(TEST, pa.Table.from_pylist(table, TEST_SCHEMA))


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
