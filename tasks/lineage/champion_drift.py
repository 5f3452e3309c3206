"""The drift of the dataset from the data of the round's champion: data/reports/drift.json and drift.svg, once per dataset.

Not a DVC stage: only a limit on `drift.max_psi` in the gate's policy depends on it, and the champion's data come from its version
commit. It never fails a run: an error is recorded and printed, and the next run measures again.
"""

from __future__ import annotations

import logging
from typing import Any

from tasks import paths
from tasks.errors import StropError
from tasks.lineage.drift_report import measure_drift
from tasks.lineage.version_data import NOW, commit_at
from tasks.runtime.files import content_digest, read_json, write_json
from tasks.state.data_drift import report_digests
from tasks.state.round import read_round
from tasks.vcs.dvc_outputs import dataset_version, output_hash

logger = logging.getLogger(__name__)

NO_CHAMPION, SAME_DATA, MEASURED, NOT_MEASURED = "no champion", "same data", "measured", "not measured"


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
    try:
        facts: dict[str, Any] = read_json(paths.DRIFT)
        is_there = facts["state"] != MEASURED or paths.DRIFT_PLOT.exists()
        is_current = facts["made_of"] == _inputs_digest() and facts["reports"] == report_digests()
        return facts if is_there and is_current else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _inputs_digest() -> str:
    """Digest of the inputs of the report."""
    champion = read_round().champion
    return content_digest([dataset_version(), champion.weights_digest if champion else None, *report_digests()])


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
