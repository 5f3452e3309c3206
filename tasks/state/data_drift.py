"""The drift of the dataset from the champion's, as a number for the policy: `drift.max_psi`. From data/reports/drift.json, which
the flow writes after `curate`."""

from __future__ import annotations

from typing import Any

from tasks import paths
from tasks.runtime.files import file_digest, read_json
from tasks.state.round import Round


def drift_numbers(round_: Round) -> dict[str, float | None]:
    """`max_psi`: the largest index of all measures that is not within chance; 0 without a champion, or with its dataset; None if it
    was not measured, or on other data."""
    if round_.champion is None:
        return {"max_psi": 0.0}
    try:
        facts: dict[str, Any] = read_json(paths.DRIFT)
        is_current = facts["champion"] == round_.champion.version and facts["reports"] == report_digests()
        if not is_current or facts["state"] not in ("measured", "same data"):
            return {"max_psi": None}
        entries = facts["measured"]["drift"] if facts["state"] == "measured" else []
        return {"max_psi": max((float(e["psi"]) for e in entries if not e["may_be_chance"]), default=0.0)}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {"max_psi": None}


def report_digests() -> list[str]:
    """Digests of the reports of `validate` and `curate`, which name every batch of the dataset."""
    return [file_digest(path) if path.exists() else "" for path in (paths.VALIDATE_REPORT, paths.CURATE_REPORT)]
