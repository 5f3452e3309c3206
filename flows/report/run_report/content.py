"""What the report of a run shows, read from the reports in data/ and from the ledger: texts and numbers, without any markup."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from flows.report.drift_summary import drift_notes, drift_of, drift_rows, drift_title
from flows.report.measure_rows import probe_rows
from flows.report.row_commands import CONDITIONS, command_for
from flows.report.row_table import lines_of
from flows.report.run_report.answers import answers_of, column_names, confusion_of, read_predictions, scores_by_role
from flows.report.run_report.slices import FamilySlices, slice_families
from flows.report.run_report.verdict_words import MARKS, explain, reference_name, sentences
from flows.report.summary import read_report, read_row_counts
from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import DataError, StropError, one_line
from tasks.evaluate.curves import read_curves
from tasks.evaluate.further_scores import further_scores
from tasks.lineage.compare import recipe_and_data
from tasks.lineage.run_predictions import Model
from tasks.runtime.files import content_digest
from tasks.state.round import read_round
from tasks.state.verdict import outcome_of
from tasks.tracking.run_record import flat
from tasks.vcs.dvc_outputs import dataset_version

Content = dict[str, Any]


def read_content(config: PipelineConfig) -> Content:
    """Everything that the page shows.

    Raises:
        DataError: there is no verdict yet.
    """
    verdict, metrics = read_report(paths.VERDICT), read_report(paths.METRICS)
    if verdict is None or metrics is None:
        raise DataError("there is no verdict yet", where=str(paths.VERDICT), fix="Make it: strop run")
    champion = read_round().champion
    dataset, settings = dataset_version(), config.model_dump(mode="json", by_alias=True)
    reference = "champion" if verdict["champion_version"] else "base"
    return {
        "model": config.register_.model_name,
        "dataset": dataset or "",
        "key": content_digest(verdict),
        "reference": reference,
        "result": outcome_of(verdict),
        "sentences": sentences(verdict),
        "look": verdict["look"],
        "test_rows": verdict["test_rows"],
        "confidence": config.gate.confidence,
        "checks": [_check(check, verdict) for check in verdict["checks"]],
        **_of_predictions(
            config, reference, tuple(champion.batches) if champion else (), verdict.get("judged_families", ())
        ),
        "probes": probe_rows(metrics.get("models", {})),
        "further": further_scores(metrics["models"]),
        "curves": _curves(paths.MODEL / "curves.jsonl"),
        "drift": _drift(dataset),
        "rows": _rows(),
        "parameters": [(name, str(value)) for name, value in flat(settings).items()],
        **_changes(config, verdict["champion_version"]),
    }


def _check(check: Content, verdict: Content) -> Content:
    return {
        **check,
        "tier": check.get("tier") or "",
        "mark": MARKS[check["passed"]],
        "words": explain(check, verdict),
        "command": command_for(check, verdict) or "",
        "outcome": "" if check["name"].split("/")[0] in CONDITIONS else "lost",
        "against": reference_name(verdict),
    }


def _of_predictions(
    config: PipelineConfig, reference: str, established: tuple[str, ...], judged: Collection[str]
) -> Content:
    tables = read_predictions()
    if not tables:
        return {"roles": [], "families": [], "answers": [], "left_out": 0, "judged": ""}
    rows = tables["candidate"]
    families = slice_families(rows, scores_by_role(tables), established, config.evaluate)
    answers, left_out = answers_of(tables, reference, judged)
    return {
        "roles": list(tables),
        "families": [_family(family, rows) for family in families],
        "answers": answers,
        "left_out": left_out,
        "judged": ", ".join(sorted(judged)),
    }


def _family(family: FamilySlices, rows: Any) -> Content:
    confusion: Content | None = None
    if family.is_classification:
        matrix = confusion_of(rows.filter(pc.equal(rows["family"], family.family)))
        counts = [(label, line, max(sum(line), 1)) for label, line in zip(matrix.labels, matrix.counts, strict=True)]
        confusion = {"columns": column_names(matrix), "lines": counts, "left_out": matrix.left_out}
    return {"family": family.family, "measure": family.measure, "slices": family.slices, "confusion": confusion}


def _curves(path: Path) -> list[Content]:
    points = read_curves(path)
    names = dict.fromkeys(name.removeprefix("valid_") for point in points for name in point if name != "step")
    curves = []
    for name in sorted(names, key=lambda name: (name != "loss", name)):
        both = {"training": name, "validation": f"valid_{name}"}
        series = {
            label: [(float(p["step"]), float(p[key])) for p in points if isinstance(p.get(key), int | float)]
            for label, key in both.items()
        }
        if any(series.values()):
            curves.append({"name": name.replace("_", " "), "series": {k: v for k, v in series.items() if v}})
    return curves


def _drift(dataset: str | None) -> Content | None:
    drift = drift_of(read_report(paths.DRIFT), dataset)
    if drift is None:
        return None
    return {"title": drift_title(drift), "notes": drift_notes(drift), "rows": drift_rows(drift) if drift.moved else []}


def _rows() -> list[tuple[str, str, str]]:
    data = read_row_counts()
    return [(f"{line.count:,}", line.name, line.detail) for line in lines_of(data)] if data else []


def _changes(config: PipelineConfig, champion: int | None) -> Content:
    """What differs from the champion, in parameters and data; nothing without a champion."""
    if champion is None:
        return {"changed": None, "data_changes": None, "problem": ""}
    models = Model(f"champion v{champion}", champion), Model("candidate", None)
    try:
        changed, data, problem = recipe_and_data(config.register_.model_name, *models)
    except Exception as error:  # damaged data of an old version must not cost the rest of the page  # noqa: BLE001
        changed, data = None, None
        problem = one_line(error if isinstance(error, StropError) else f"{type(error).__name__}: {error}")
    lines = None
    if data is not None:
        lines = [
            f"{data.before:,} rows before, {data.after:,} now: {data.added.rows:,} added, {data.removed.rows:,} removed, "
            f"{data.edited.rows:,} edited",
            *(f"batch {batch} was added" for batch in data.batches_added),
            *(f"batch {batch} was removed" for batch in data.batches_removed),
        ]
    return {"changed": changed, "data_changes": lines, "problem": problem}
