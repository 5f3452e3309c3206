"""The drift between two versions of the dataset, with the shares refused and dropped, as facts and as a picture."""

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
"""What `strop data drift` found; the flow's own report is paths.DRIFT."""
MOVED = 5
"""Bins that are named of what moved."""


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
    """What the training rows of two versions differ in, as facts; draws the picture.

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
        "compared_rows": [sum(sample.taken.values()) for sample in samples],
        "drift": [
            {**asdict(d), "level": d.level, "may_be_chance": d.may_be_chance, "moved": d.moved(MOVED)} for d in drifts
        ],
        "shares": _shares(set(before), set(after) - set(before)) if second == NOW else {},
    }


def _shares(old: set[str], new: set[str]) -> dict[str, dict[str, float]]:
    """Shares of rows refused by `validate`, and dropped by `curate` as duplicates, in the batches of each."""
    refused = _by_batch(paths.VALIDATE_REPORT)
    curated = _by_batch(paths.CURATE_REPORT)
    found = {}
    for name, batches in (("before", old), ("new batches", new)):
        rows = sum(refused.get(batch, {}).get("rows", 0) for batch in batches)
        if not rows:
            continue
        lost = sum(refused.get(batch, {}).get("refused", 0) or 0 for batch in batches)
        dropped = [curated.get(batch, {}).get("dropped", {}) for batch in batches]
        twice = sum(count for each in dropped for reason, count in each.items() if reason.endswith("duplicate"))
        found[name] = {"refused": round(lost / rows, 4), "duplicates": round(twice / rows, 4)}
    return found


def _by_batch(report: Path) -> dict[str, dict[str, Any]]:
    return {entry["batch"]: entry for entry in read_json(report)["batches"]} if report.exists() else {}
