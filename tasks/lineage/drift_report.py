"""The drift between two dataset versions, with the shares of refused and dropped rows: numbers and a plot."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.lineage.drift import compare, profile
from tasks.lineage.drift_plot import draw_drift
from tasks.lineage.sample import draw_sample
from tasks.lineage.version_data import NOW, parts_of
from tasks.model_store.ledger import champion_of, read_ledger
from tasks.runtime.files import read_json, write_json

FOLDER = paths.REPORTS / "drift"
"""The report of `strop data drift`; the flow's own report is paths.DRIFT."""
MOVED = 5
"""Number of most changed bins in the report."""


def champion_name(model: str) -> str | None:
    """The version that serves, as `v3`."""
    champion = champion_of(read_ledger(model))
    return f"v{champion.version}" if champion else None


def report_drift(model: str, first: str, second: str = NOW) -> tuple[dict[str, Any], Path]:
    """Compares the training rows of two versions; writes data/reports/drift/drift.json and drift.svg.

    Raises:
        DataError: there is no such version.
    """
    facts = measure_drift(model, first, second, picture := FOLDER / "drift.svg")
    write_json(FOLDER / "drift.json", facts)
    return facts, picture


def measure_drift(model: str, first: str, second: str, picture: Path) -> dict[str, Any]:
    """Compares the training rows of two versions; returns the numbers and writes the plot.

    Raises:
        DataError: there is no such version.
        VersioningError: neither cache nor remote has its data.
    """
    before, after = parts_of(model, first), parts_of(model, second)
    samples = draw_sample(before), draw_sample(after)
    old, new = (profile(sample.read(), sample.rows) for sample in samples)
    drifts = compare(old, new)
    draw_drift(drifts, (first, second), picture)
    return {
        "first": first,
        "second": second,
        "rows": [sum(part.rows.num_rows for part in parts.values()) for parts in (before, after)],
        "training_rows": [sum(sample.rows.values()) for sample in samples],
        "compared_rows": [sum(sample.sampled.values()) for sample in samples],
        "drift": [
            {**asdict(d), "level": d.level, "may_be_chance": d.may_be_chance, "moved": d.moved(MOVED)} for d in drifts
        ],
        "shares": _shares(set(before), set(after) - set(before)) if second == NOW else {},
    }


def _shares(old: set[str], new: set[str]) -> dict[str, dict[str, float]]:
    """Shares of rows that `validate` refused and `curate` dropped as duplicates, in the old and in the new batches."""
    refused = _by_batch(paths.VALIDATE_REPORT)
    curated = _by_batch(paths.CURATE_REPORT)
    shares = {}
    for name, batches in (("before", old), ("new batches", new)):
        rows = sum(refused.get(batch, {}).get("rows", 0) for batch in batches)
        if not rows:
            continue
        refused_rows = sum(refused.get(batch, {}).get("refused", 0) or 0 for batch in batches)
        dropped = [curated.get(batch, {}).get("dropped", {}) for batch in batches]
        duplicates = sum(
            count for reasons in dropped for reason, count in reasons.items() if reason.endswith("duplicate")
        )
        shares[name] = {"refused": round(refused_rows / rows, 4), "duplicates": round(duplicates / rows, 4)}
    return shares


def _by_batch(report: Path) -> dict[str, dict[str, Any]]:
    return {entry["batch"]: entry for entry in read_json(report)["batches"]} if report.exists() else {}
