"""The drift of the dataset from the data of the round's champion: data/reports/drift.json and drift.svg, once a dataset.

No stage of DVC: what it says decides nothing, and the champion's data lie in its commit. So it never fails a run either: what
keeps it from measuring is written down, told, and tried again by the next run.
"""

from __future__ import annotations

from typing import Any

from tasks import paths
from tasks.errors import StropError
from tasks.lineage.drift_report import measure_drift
from tasks.lineage.version_data import NOW, commit_at
from tasks.runtime.files import content_digest, file_digest, read_json, write_json
from tasks.state.round import read_round
from tasks.vcs.dvc_outputs import dataset_version, output_hash

NO_CHAMPION, SAME_DATA, MEASURED, NOT_MEASURED = "no champion", "same data", "measured", "not measured"


def report_against_champion(model: str) -> dict[str, Any]:
    """What drift.json says: `state`, `dataset`, `champion` and, where it was measured, `measured`."""
    try:
        facts = _known() or _measure(model)
    except Exception as error:  # a report must not cost the training that comes after it  # noqa: BLE001
        told = str(error) if isinstance(error, StropError) else f"{type(error).__name__}: {error}"
        facts = {"state": NOT_MEASURED, "dataset": dataset_version(), "champion": None, "problem": told}
    if facts["state"] != MEASURED:
        paths.DRIFT_PLOT.unlink(missing_ok=True)
    write_json(paths.DRIFT, facts)
    if told := _told(facts):
        print(f"drift: {told}", flush=True)
    return facts


def _measure(model: str) -> dict[str, Any]:
    champion = read_round().champion
    facts: dict[str, Any] = {"dataset": dataset_version(), "champion": None, "made_of": _made_of()}
    if champion is None:
        return facts | {"state": NO_CHAMPION}
    facts["champion"] = champion.version
    version = f"v{champion.version}"
    if output_hash(paths.CURATED, commit_at(model, version)) == facts["dataset"]:
        return facts | {"state": SAME_DATA}
    return facts | {"state": MEASURED, "measured": measure_drift(model, version, NOW, paths.DRIFT_PLOT)}


def _known() -> dict[str, Any] | None:
    """The report of an earlier run, if it was made of the same."""
    try:
        facts: dict[str, Any] = read_json(paths.DRIFT)
        is_there = facts["state"] != MEASURED or paths.DRIFT_PLOT.exists()
        return facts if is_there and facts["made_of"] == _made_of() else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _made_of() -> str:
    """A digest of everything that the report follows from."""
    champion = read_round().champion
    reports = [file_digest(path) if path.exists() else "" for path in (paths.VALIDATE_REPORT, paths.CURATE_REPORT)]
    return content_digest([dataset_version(), champion.weights_digest if champion else None, *reports])


def _told(facts: dict[str, Any]) -> str:
    """One line, or none where there is nothing to compare."""
    if facts["state"] == NOT_MEASURED:
        return f"not measured: {facts['problem']}"
    if facts["state"] != MEASURED or not facts["measured"]["drift"]:
        return ""
    moved = [each for each in facts["measured"]["drift"] if each["level"] != "steady"]
    shown = [f"{each['family']} {each['what']} PSI {each['psi']:.2f} ({each['level']})" for each in moved[:3]]
    more = [f"{len(moved) - 3} more"] if len(moved) > 3 else []
    return f"from the data of v{facts['champion']}: {' · '.join([*shown, *more]) or 'steady'}"
