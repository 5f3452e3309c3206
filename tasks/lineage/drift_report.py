"""The drift between two dataset versions, with the shares of refused and dropped rows: numbers and a plot. A run reports the drift
from the data of the round's champion: data/reports/drift.json and drift.svg, once per dataset.

That is no DVC stage: only a limit on `drift.max_psi` in the gate's policy depends on it, and the champion's data come from its
version commit. It never fails a run: an error is recorded and printed, and the next run measures again.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.errors import StropError
from tasks.lineage.drift import compare, profile
from tasks.lineage.drift_plot import draw_drift
from tasks.lineage.sample import draw_sample
from tasks.lineage.version_data import NOW, commit_at, parts_of
from tasks.model_store.ledger import champion_version, read_ledger
from tasks.runtime.files import content_digest, read_json, read_object, write_json
from tasks.state.data_drift import report_digests
from tasks.state.round import read_round
from tasks.vcs.dvc_outputs import dataset_version, output_hash

logger = logging.getLogger(__name__)

FOLDER = paths.REPORTS / "drift"
"""The report of `strop data drift`; the flow's own report is paths.DRIFT."""
MOVED = 5
"""Number of most changed bins in the report."""
NO_CHAMPION, SAME_DATA, MEASURED, NOT_MEASURED = "no champion", "same data", "measured", "not measured"


def champion_name(model: str) -> str | None:
    """The version that serves, as `v3`."""
    version = champion_version(read_ledger(model))
    return f"v{version}" if version else None


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


def report_against_champion(model: str) -> dict[str, Any]:
    """The content of drift.json: `state`, `dataset`, `champion` and, if the drift was measured, `measured`."""
    try:
        facts = _cached_report() or _measure(model)
    except Exception as error:  # a report must not stop the training that follows  # noqa: BLE001
        message = str(error) if isinstance(error, StropError) else f"{type(error).__name__}: {error}"
        facts = {"state": NOT_MEASURED, "dataset": dataset_version(), "champion": None, "problem": message}
    if facts["state"] != MEASURED:
        paths.DRIFT_PLOT.unlink(missing_ok=True)
    write_json(paths.DRIFT, facts)
    if line := _log_line(facts):
        logger.info(f"drift: {line}")
    return facts


def _measure(model: str) -> dict[str, Any]:
    champion = read_round().champion
    facts: dict[str, Any] = {"dataset": dataset_version(), "champion": None, "made_of": _inputs_digest()}
    facts["reports"] = report_digests()
    if champion is None:
        return facts | {"state": NO_CHAMPION}
    facts["champion"] = champion.version
    version = f"v{champion.version}"
    if output_hash(paths.CURATED, commit_at(model, version)) == facts["dataset"]:
        return facts | {"state": SAME_DATA}
    return facts | {"state": MEASURED, "measured": measure_drift(model, version, NOW, paths.DRIFT_PLOT)}


def _cached_report() -> dict[str, Any] | None:
    """The report of an earlier run, if it has the same inputs."""
    facts = read_object(paths.DRIFT)
    is_there = facts.get("state") != MEASURED or paths.DRIFT_PLOT.exists()
    is_current = facts.get("made_of") == _inputs_digest() and facts.get("reports") == report_digests()
    return facts if is_there and is_current else None


def _inputs_digest() -> str:
    """Digest of the inputs of the report."""
    champion = read_round().champion
    identity = [champion.version, champion.weights_digest] if champion else None
    return content_digest([dataset_version(), identity, *report_digests()])


def _log_line(facts: dict[str, Any]) -> str:
    """The log line, or "" where there is nothing to compare."""
    if facts["state"] == NOT_MEASURED:
        return f"not measured: {facts['problem']}"
    if facts["state"] != MEASURED or not facts["measured"]["drift"]:
        return ""
    moved = [entry for entry in facts["measured"]["drift"] if entry["level"] != "steady"]
    shown = [f"{entry['family']} {entry['what']} PSI {entry['psi']:.2f} ({entry['level']})" for entry in moved[:3]]
    more = [f"{len(moved) - 3} more"] if len(moved) > 3 else []
    return f"from the data of v{facts['champion']}: {' · '.join([*shown, *more]) or 'steady'}"
