"""Room `render`: curated rows × instruction templates → token ids, loss masks, packed rows. Run: `python -m tasks render`"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import replace
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
from tasks.dataset.rendered import FURTHER_TESTS, LEFT_OUT, TEMPLATES, VALID, speaks
from tasks.errors import ConfigError, DataError
from tasks.prompts.templates.templates import read_templates
from tasks.records.raw_bytes import require_unchanged
from tasks.render.anchors import write_anchors
from tasks.render.balance import MIXED_BY, SYNTHETIC, Mix, replay
from tasks.render.family_stats import FamilyStats, require_classes, require_templates
from tasks.render.forms.forms import THINKING, Material, is_of_form, map_jobs, writer_of
from tasks.render.left_out import BALANCE, NO_FORM, NOT_REPLAYED, LeftOut
from tasks.render.row_store import COLUMNS, PORTION_ROWS, Rows, RowWriter
from tasks.render.settings import RenderSettings
from tasks.render.shots import write_shots
from tasks.runtime.fast_imports import importing
from tasks.runtime.files import read_batches, write_json, write_tables
from tasks.runtime.free_memory import give_memory_back
from tasks.runtime.plurals import count_of
from tasks.runtime.progress import track
from tasks.state.manifest import read_manifest
from tasks.state.training_start import Start, read_start

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")


def run(config: PipelineConfig) -> None:
    """Writes data/rendered (a folder a form, test.parquet, templates.json) and data/reports/render.json.

    Raises:
        ConfigError: a template is invalid, a family has none, or examples exceed the context of a model trained from scratch.
        DataError: no example is left to train or to test on, or a classification has only one class.
    """
    settings, start = config.render, read_start()
    require_unchanged(read_manifest())
    _require_context(config)
    forms = start.forms
    families = read_templates()
    report: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    paths.CACHE.mkdir(exist_ok=True)
    for stale in paths.CACHE.glob("rendering-*"):  # by a run that was killed
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="rendering-", dir=paths.CACHE) as folder, ExitStack() as stack:
        left_out = stack.enter_context(LeftOut(Path(folder) / "left_out.parquet"))
        rows, stats = _collect_rows(Path(folder), settings, start, report, left_out)
        give_memory_back()
        require_templates(stats, families)
        require_classes(stats, families)
        with importing():  # torch too, which is not needed in memory while rows are collected
            from tasks.base.load import load_tokenizer

        base, generates = base_folder(read_base()), any(map(speaks, forms))
        tokenizer = load_tokenizer(base, config.base.chat_template, generates=generates)
        material = Material(tokenizer, families, settings, counts)
        _note_dropped_thoughts(report, material)
        shutil.rmtree(paths.RENDERED, ignore_errors=True)
        paths.RENDERED.mkdir(parents=True)
        _write_valid_families(rows["valid"].path)
        total = sum(rows[split].count * len(forms) for split in ("train", "valid")) + rows["test"].count
        with track("render", total=total, unit="rows") as progress:

            def rows_for(form: str, split: str) -> Rows:
                is_chosen = partial(is_of_form, form, forms=forms, split=split)
                return replace(rows[split], is_chosen=is_chosen, advance=progress.advance)

            for form in forms:
                split_counts = {}
                for split in ("train", "valid"):
                    split_counts[split] = writer_of(form).write(form, split, rows_for(form, split), material)
                    left_out.drop(split, material.take_dropped())
                if form == forms[-1]:
                    split_counts["test"] = {"examples": writer_of(form).write_test(rows_for(form, "test"), material)}
                    left_out.drop("test", material.take_dropped())
                    report["splits"] = split_counts
                else:
                    report.setdefault("before", {})[form] = split_counts
            tested = replace(rows_for(forms[-1], "test"), advance=None)
        report |= _write_further_tests(start, tested, rows["train"], material)
        left_out.finish(forms)
        stack.close()  # completes the file
        shutil.move(Path(folder) / "left_out.parquet", LEFT_OUT)
    report["without_example"] = left_out.report()
    used_templates = {family: families[family].as_dict() for family in sorted(stats)}
    write_json(TEMPLATES, {"form": forms[-1], "families": used_templates, **material.as_dict()})
    report["cut"] = counts.pop("cut", 0)
    counts.pop(THINKING, None)
    report["dropped"] = dict(counts)
    write_json(paths.RENDER_REPORT, report)
    _require_examples(report, forms[-1])


def _write_further_tests(start: Start, tested: Rows, training: Rows, material: Material) -> dict[str, Any]:
    """Writes anchors and rows with examples, if these are set; returns their entries in the report."""
    entries: dict[str, Any] = {}
    if start.shots:
        each_once = Rows(training.path, training.count)
        entries["shots"] = write_shots(start.shots, start.answer_tokens, tested, each_once, material)
    if start.anchors is not None:
        entries["anchors"] = write_anchors(Path(start.anchors), material, training.path)
    if entries:
        write_json(FURTHER_TESTS, entries)
    return entries


def _require_context(config: PipelineConfig) -> None:
    scratch, longest = config.base.scratch_settings(), config.render.max_length_tokens
    if scratch is not None and longest > scratch.context:
        what = f"render.max_length_tokens is {longest}, above base.scratch.context, which is {scratch.context}"
        raise ConfigError(what, where=str(paths.PARAMS), fix="Lower the one, or raise the other")


def _collect_rows(
    folder: Path, settings: RenderSettings, start: Start, report: dict[str, Any], left_out: LeftOut
) -> tuple[dict[str, Rows], dict[str, FamilyStats]]:
    """Writes the rows of each split into `folder`; returns them with family → statistics. Adds the left-out rows to the report."""
    mix = Mix(settings.balance, settings.max_synthetic_share)
    stats: defaultdict[str, FamilyStats] = defaultdict(FamilyStats)
    replayed: Counter[str] = Counter()
    other_rows: dict[str, list[npt.NDArray[np.int64]]] = {split: [] for split in SPLITS}
    dataset_rows: Counter[str] = Counter()
    with ExitStack() as stack:
        files = {split: stack.enter_context(RowWriter(folder / f"{split}.parquet")) for split in SPLITS}
        for piece in read_pieces(partial(map_jobs, settings)):
            for family in pc.unique(piece["family"]).to_pylist():
                stats[family].add(piece["output"].filter(pc.equal(piece["family"], family)))
            with_thoughts = pc.sum(pc.not_equal(piece["thoughts"], "")).as_py() or 0
            report["with_thoughts"] = report.get("with_thoughts", 0) + with_thoughts
            read = piece.select([*dict.fromkeys((*COLUMNS, *MIXED_BY))])
            for split, file in files.items():
                rows = read.filter(pc.equal(piece["split"], split))
                dataset_rows[split] += rows.num_rows
                if split == "train":
                    if start.champion is not None:
                        rows, taken, known = replay(rows, start.champion.batches, start.replay_share)
                        replayed += taken
                        left_out.add(split, (NOT_REPLAYED, ""), known)
                    mix.add(rows)
                other_rows[split].append(file.rows + _indices_without_form(rows, start.forms, split))
                file.add(rows)
    if start.champion is not None:
        report["replayed"] = {name: replayed[name] for name in ("new", "known")}
    times, report["left_out"] = mix.times()
    for split, file in files.items():
        reasons = [(NO_FORM, ""), *((BALANCE if rule != SYNTHETIC else rule, rule) for rule, _ in mix.left_out)]
        reason_codes = np.zeros(file.rows, np.uint16)
        if split == "train":
            for code, (_, indices) in enumerate(mix.left_out, start=2):
                reason_codes[indices] = code
        reason_codes[np.concatenate([np.empty(0, np.int64), *other_rows[split]])] = 1
        left_out.add_indices(split, file.path, reason_codes, reasons)
    report["rows"] = {split: dataset_rows[split] for split in SPLITS}
    of_split = {"train": times}
    return {split: Rows(file.path, file.rows, of_split.get(split)) for split, file in files.items()}, dict(stats)


def _note_dropped_thoughts(report: dict[str, Any], material: Material) -> None:
    """Prints a note if the chat template does not write thoughts, which then are not trained."""
    rows = report.get("with_thoughts", 0)
    if rows and not (material.tokenizer.chat_template and material.renderer.chat.writer.writes_thoughts):
        note = f"the chat template writes no `reasoning_content`: the thoughts of {count_of(rows, 'row')} are left out"
        logger.warning(f"render: note: {note} (a template that writes them: `base.chat_template`)")


def _indices_without_form(rows: pa.Table, forms: tuple[str, ...], split: str) -> npt.NDArray[np.int64]:
    """The indices of the rows that no training, or no test, uses."""
    read = forms[-1:] if split == "test" else forms
    is_read = np.zeros(rows.num_rows, np.bool_)
    for form in read:
        is_read |= is_of_form(form, rows, forms, split).to_numpy(zero_copy_only=False).astype(np.bool_)
    return np.flatnonzero(~is_read)


def _write_valid_families(rows: Path) -> None:
    """Writes the families of the validation rows, for the losses per family in `evaluate`."""
    schema = pa.schema([("row_id", pa.string()), ("family", pa.string())])
    with pq.ParquetFile(rows) as file:
        batches = read_batches(file, PORTION_ROWS, columns=schema.names, use_threads=False)
        write_tables(VALID, schema, (pa.Table.from_batches([batch]).cast(schema) for batch in batches))


def _require_examples(report: dict[str, Any], form: str) -> None:
    """Checks here, before a training that may be the last of several fails for lack of examples."""
    before = {form_before: counts["train"] for form_before, counts in report.get("before", {}).items()}
    training_counts = {**before, form: report["splits"]["train"]}
    for name, counts in training_counts.items():
        if not counts["examples"] and not report["dropped"]:
            what = f"no training row can be rendered in the form {name}, which the objective needs"
            fix = "Add a source that has such rows, or choose another finetune.objective"
            raise DataError(what, where=str(paths.RENDERED), fix=fix)
    trained = [("train", counts) for counts in training_counts.values()]
    for split, counts in (*trained, ("test", report["splits"]["test"])):
        if not counts["examples"]:
            what = f"no {split} row fits into render.max_length_tokens (dropped: {report['dropped']})"
            raise DataError(what, where=str(paths.RENDERED), fix="Raise render.max_length_tokens in params.yaml")
