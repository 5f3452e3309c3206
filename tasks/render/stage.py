"""Room `render`: curated rows × instruction templates → token ids, loss masks, packed rows. Run: `python -m tasks render`"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.base.convert import base_folder
from tasks.base.pin import read_base
from tasks.dataset.read import read_pieces
from tasks.dataset.rendered import LEFT_OUT, TEMPLATES, VALID, speaks
from tasks.errors import ConfigError, DataError
from tasks.records.raw_bytes import require_unchanged
from tasks.render.balance import MIXED_BY, SYNTHETIC, Mix, replay
from tasks.render.forms.forms import THINKING, Material, is_of_form, rows_of_form, shared_out, writer_of
from tasks.render.left_out import BALANCE, NO_FORM, NOT_REPLAYED, LeftOut
from tasks.render.row_store import COLUMNS, PORTION_ROWS, Gathering, Rows
from tasks.render.settings import RenderSettings
from tasks.render.templates.templates import FamilyTemplates, read_templates
from tasks.runtime.fast_imports import importing
from tasks.runtime.files import read_batches, write_json, write_tables
from tasks.runtime.free_memory import give_memory_back
from tasks.runtime.plurals import count_of
from tasks.runtime.progress import track
from tasks.scoring.metrics import METRICS
from tasks.state.manifest import read_manifest
from tasks.state.training_start import Start, read_start

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")


def run(config: PipelineConfig) -> None:
    """Writes data/rendered (a folder a form, test.parquet, templates.json) and data/reports/render.json.

    Raises:
        ConfigError: a template is wrong, a family has none, or examples are longer than what a model from scratch can read.
        DataError: nothing is left to train on or to judge by, or a classification has one class only.
    """
    settings, start = config.render, read_start()
    require_unchanged(read_manifest())
    _require_context(config)
    forms = start.forms
    families = read_templates()
    report: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    paths.CACHE.mkdir(exist_ok=True)
    for left in paths.CACHE.glob("rendering-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="rendering-", dir=paths.CACHE) as waiting, ExitStack() as waits:
        left_out = waits.enter_context(LeftOut(Path(waiting) / "left_out.parquet"))
        rows, seen = _gather(Path(waiting), settings, start, report, left_out)
        give_memory_back()
        _require_templates(seen, families)
        _require_classes(seen, families)
        with importing():  # torch too, which need not lie in memory while rows are gathered
            from tasks.base.load import load_tokenizer

        tokenizer = load_tokenizer(
            base_folder(read_base()), config.base.chat_template, generates=any(map(speaks, forms))
        )
        material = Material(tokenizer, families, settings, counts)
        _tell_of_thoughts(report, material)
        shutil.rmtree(paths.RENDERED, ignore_errors=True)
        paths.RENDERED.mkdir(parents=True)
        _write_valid_families(rows["valid"].path)
        total = sum(rows[split].count * len(forms) for split in ("train", "valid")) + rows["test"].count
        with track("render", total=total, unit="rows") as progress:

            def chosen(form: str, split: str) -> Rows:
                return replace(
                    rows[split], choose=partial(rows_of_form, form, forms=forms, split=split), seen=progress.advance
                )

            for form in forms:
                split_counts = {}
                for split in ("train", "valid"):
                    split_counts[split] = writer_of(form).write(form, split, chosen(form, split), material)
                    left_out.drop(split, material.take_dropped())
                if form == forms[-1]:
                    split_counts["test"] = {"examples": writer_of(form).write_test(chosen(form, "test"), material)}
                    left_out.drop("test", material.take_dropped())
                    report["splits"] = split_counts
                else:
                    report.setdefault("before", {})[form] = split_counts
        left_out.finish(forms)
        waits.close()  # the file is whole
        shutil.move(Path(waiting) / "left_out.parquet", LEFT_OUT)
    report["without_example"] = left_out.report()
    used = {family: families[family].told() for family in sorted(seen)}
    write_json(TEMPLATES, {"form": forms[-1], "families": used, **material.told()})
    report["cut"] = counts.pop("cut", 0)
    counts.pop(THINKING, None)
    report["dropped"] = dict(counts)
    write_json(paths.RENDER_REPORT, report)
    _require_examples(report, forms[-1])


def _require_context(config: PipelineConfig) -> None:
    made, longest = config.base.scratch_settings(), config.render.max_length_tokens
    if made is not None and longest > made.context:
        what = f"render.max_length_tokens is {longest}, but a model of base.scratch.context {made.context} reads no more than that"
        raise ConfigError(what, where=str(paths.PARAMS), fix="Lower the one, or raise the other")


def _gather(
    folder: Path, settings: RenderSettings, start: Start, report: dict[str, Any], left_out: LeftOut
) -> tuple[dict[str, Rows], dict[str, Seen]]:
    """The rows of each split, in `folder`, and what was seen of each family; the report says which were left out."""
    mix = Mix(settings.balance, settings.max_synthetic_share)
    seen: defaultdict[str, Seen] = defaultdict(Seen)
    replayed: Counter[str] = Counter()
    others: dict[str, list[npt.NDArray[np.int64]]] = {split: [] for split in SPLITS}
    of_dataset: Counter[str] = Counter()
    with ExitStack() as stack:
        files = {split: stack.enter_context(Gathering(folder / f"{split}.parquet")) for split in SPLITS}
        for piece in read_pieces(partial(shared_out, settings)):
            for family in pc.unique(piece["family"]).to_pylist():
                seen[family].add(piece["output"].filter(pc.equal(piece["family"], family)))
            with_thoughts = pc.sum(pc.not_equal(piece["thoughts"], "")).as_py() or 0
            report["with_thoughts"] = report.get("with_thoughts", 0) + with_thoughts
            read = piece.select([*dict.fromkeys((*COLUMNS, *MIXED_BY))])
            for split, file in files.items():
                rows = read.filter(pc.equal(piece["split"], split))
                of_dataset[split] += rows.num_rows
                if split == "train":
                    if start.champion is not None:
                        rows, taken, known = replay(rows, start.champion.batches, start.replay_share)
                        replayed += taken
                        left_out.add(split, (NOT_REPLAYED, ""), known)
                    mix.add(rows)
                others[split].append(file.rows + _places_of_no_form(rows, start.forms, split))
                file.add(rows)
    if start.champion is not None:
        report["replayed"] = {name: replayed[name] for name in ("new", "known")}
    times, report["left_out"] = mix.times()
    for split, file in files.items():
        reasons = [(NO_FORM, ""), *((BALANCE if rule != SYNTHETIC else rule, rule) for rule, _ in mix.left_out)]
        why = np.zeros(file.rows, np.uint16)
        if split == "train":
            for code, (_, places) in enumerate(mix.left_out, start=2):
                why[places] = code
        why[np.concatenate([np.empty(0, np.int64), *others[split]])] = 1
        left_out.add_places(split, file.path, why, reasons)
    report["rows"] = {split: of_dataset[split] for split in SPLITS}
    of_split = {"train": times}
    return {split: Rows(file.path, file.rows, of_split.get(split)) for split, file in files.items()}, dict(seen)


def _tell_of_thoughts(report: dict[str, Any], material: Material) -> None:
    """An answer's thought is trained only as the chat template writes it."""
    rows = report.get("with_thoughts", 0)
    if rows and not (material.tokenizer.chat_template and material.renderer.chat.has_thoughts):
        note = f"the chat template writes no `reasoning_content`: the thoughts of {count_of(rows, 'row')} are left out"
        logger.warning(f"render: note: {note} (a template that writes them: `base.chat_template`)")


def _places_of_no_form(rows: pa.Table, forms: tuple[str, ...], split: str) -> npt.NDArray[np.int64]:
    """The rows that no training, or no test, reads."""
    read = forms[-1:] if split == "test" else forms
    is_read = np.zeros(rows.num_rows, np.bool_)
    for form in read:
        is_read |= is_of_form(form, rows, forms, split).to_numpy(zero_copy_only=False).astype(np.bool_)
    return np.flatnonzero(~is_read)


def _write_valid_families(rows: Path) -> None:
    """By which `evaluate` tells the losses of the families apart."""
    schema = pa.schema([("row_id", pa.string()), ("family", pa.string())])
    with pq.ParquetFile(rows) as file:
        batches = read_batches(file, PORTION_ROWS, columns=schema.names, use_threads=False)
        write_tables(VALID, schema, (pa.Table.from_batches([batch]).cast(schema) for batch in batches))


@dataclass
class Seen:
    """What was seen of a family's rows."""

    rows: int = 0
    some_labels: set[str] = field(default_factory=set)
    """Of its outputs, two that differ, or the only one."""

    def add(self, outputs: pa.ChunkedArray) -> None:
        self.rows += len(outputs)
        if len(self.some_labels) < 2:
            self.some_labels.update(pc.unique(outputs).to_pylist()[:2])


def _require_templates(seen: Mapping[str, Seen], families: dict[str, FamilyTemplates]) -> None:
    missing = sorted(set(seen) - set(families))
    if missing:
        what = f"no templates for the family {', '.join(missing)}; there are {', '.join(families)}"
        correct = "correct `family` of the source in params.yaml, then: strop data reread SOURCE"
        raise ConfigError(
            what, where=str(paths.TEMPLATES), fix=f"Write {paths.TEMPLATES}/{missing[0]}.yaml; or {correct}"
        )


def _require_classes(seen: Mapping[str, Seen], families: dict[str, FamilyTemplates]) -> None:
    for family, of_family in seen.items():
        if METRICS[families[family].kind].is_classification and len(of_family.some_labels) == 1:
            (label,) = of_family.some_labels
            raise DataError(
                f"family {family} has one class only ({label!r}, {of_family.rows} rows): there is nothing to tell apart",
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
