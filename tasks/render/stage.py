"""Room `render`: curated rows × instruction templates → token ids, loss masks, packed rows. Run: `python -m tasks render`"""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.materialise import base_folder
from tasks.base.resolve import read_base
from tasks.dataset import read_dataset
from tasks.errors import ConfigError, DataError
from tasks.files import write_json
from tasks.progress import track
from tasks.render.balance import balance, replay
from tasks.render.forms import Material, rows_of_form, writer_of
from tasks.render.templates import FamilyTemplates, read_templates
from tasks.rendered import TEMPLATES, speaks
from tasks.start import read_start

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def run(config: PipelineConfig) -> None:
    """Writes data/rendered (a folder a form, test.parquet, templates.json) and data/reports/render.json.

    Raises:
        ConfigError: a template is wrong, a family has none, or examples are longer than what a model from scratch can read.
        DataError: nothing is left to train on or to judge by, or a classification has one class only.
    """
    settings, start = config.render, read_start()
    _require_context(config)
    forms = start.forms
    dataset = read_dataset()
    families = read_templates()
    _require_templates(dataset, families)
    _require_classes(dataset, families)
    tokenizer = load_tokenizer(base_folder(read_base()), config.base.chat_template, speaks=any(map(speaks, forms)))

    shutil.rmtree(paths.RENDERED, ignore_errors=True)
    paths.RENDERED.mkdir(parents=True)
    report: dict[str, Any] = {}
    rows = {split: dataset.filter(pc.equal(dataset["split"], split)) for split in ("train", "valid", "test")}
    if start.champion is not None:
        rows["train"], report["replayed"] = replay(rows["train"], start.champion.batches, start.replay_share)
    places, report["left_out"] = balance(rows["train"], settings.balance, settings.max_synthetic_share)
    rows["train"] = rows["train"].take(pa.array(places))

    chosen = {form: {split: rows_of_form(form, rows[split], forms, split) for split in rows} for form in forms}
    total = sum(chosen[form][split].num_rows for form in forms for split in ("train", "valid"))
    counts: Counter[str] = Counter()
    with track("render", total=total + chosen[forms[-1]]["test"].num_rows, unit="rows") as progress:
        material = Material(tokenizer, families, settings, counts, progress)
        for form in forms:
            split_counts = {
                split: writer_of(form).write(form, split, chosen[form][split], material) for split in ("train", "valid")
            }
            if form == forms[-1]:
                split_counts["test"] = {"examples": writer_of(form).write_test(chosen[form]["test"], material)}
                report["splits"] = split_counts
            else:
                report.setdefault("before", {})[form] = split_counts
    used = {family: families[family].told() for family in sorted(pc.unique(dataset["family"]).to_pylist())}
    write_json(TEMPLATES, {"form": forms[-1], "families": used, **material.told()})
    report["cut"] = counts.pop("cut", 0)
    report["dropped"] = dict(counts)
    write_json(paths.RENDER_REPORT, report)
    _require_examples(report, forms[-1])


def _require_context(config: PipelineConfig) -> None:
    made, longest = config.base.made(), config.render.max_length_tokens
    if made is not None and longest > made.context:
        what = f"render.max_length_tokens is {longest}, but a model of base.scratch.context {made.context} reads no more than that"
        raise ConfigError(what, where=str(paths.PARAMS), fix="Lower the one, or raise the other")


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


def _require_examples(report: dict[str, Any], form: str) -> None:
    """Told here, and not when a training finds nothing, be it the last of several."""
    taught = {
        **{before: counts["train"] for before, counts in report.get("before", {}).items()},
        form: report["splits"]["train"],
    }
    for name, counts in taught.items():
        if not counts["examples"] and not report["dropped"]:
            what = f"no training row is of the form {name}, which a training needs"
            fix = "Add a source that has such rows, or choose another finetune.objective"
            raise DataError(what, where=str(paths.RENDERED), fix=fix)
    for split, counts in (*(("train", each) for each in taught.values()), ("test", report["splits"]["test"])):
        if not counts["examples"]:
            raise DataError(
                f"no {split} row fits into render.max_length_tokens (dropped: {report['dropped']})",
                where=str(paths.RENDERED),
                fix="Raise render.max_length_tokens in params.yaml",
            )
