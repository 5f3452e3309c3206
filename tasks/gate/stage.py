"""Decides whether the candidate passes: predictions and the round → data/reports/verdict.json. Run: `dvc repro gate`.

A verdict is a result: the stage exits with 0, also if it is `refused` or `inconclusive`.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset.row_texts import with_row_texts
from tasks.errors import DataError
from tasks.gate.judged_scores import COLUMN as JUDGE_SCORE
from tasks.gate.judged_scores import judged_families, with_judged_scores
from tasks.gate.number_paths import split_path
from tasks.gate.pairing import COLUMNS as OTHER_COLUMNS
from tasks.gate.pairing import PROMPT, pair_scores
from tasks.gate.policy import Verdict, decide
from tasks.gate.slices import parse_slices
from tasks.runtime.files import damage_reason, read_json, write_json
from tasks.state.data_drift import drift_numbers
from tasks.state.round import Round, read_round
from tasks.state.verdict import rows_needed_text

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.gate.settings import GateSettings

logger = logging.getLogger(__name__)

COLUMNS = ["row_id", "batch", "family", "score", *OTHER_COLUMNS]


def run(config: PipelineConfig) -> None:
    """Writes the verdict.

    Raises:
        DataError: predictions are missing, or belong to other rows or to another champion than the round's.
    """
    round_ = read_round()
    reference = "champion" if round_.champion else "base"
    metrics, candidate_digest = _read_metrics(round_)
    judged = judged_families(metrics, reference)
    needed = {name for condition in parse_slices(config.gate).values() for name in condition.columns}
    needs_prompts = PROMPT in needed or "length" in config.gate.slices
    candidate = with_row_texts(_read_predictions("candidate", judged, needs_prompts), needed)
    scores = pair_scores(_read_predictions(reference, judged), candidate)
    verdict = decide(scores, config.gate, round_, _with_drift(metrics, config.gate, round_))
    write_json(paths.VERDICT, describe(verdict, round_, candidate_digest, judged))
    for line in summarise(verdict, reference, judged):
        logger.info(line)


def describe(verdict: Verdict, round_: Round, candidate_digest: str, judged: list[str]) -> dict[str, Any]:
    """The content of data/reports/verdict.json."""
    return {
        "outcome": verdict.outcome,
        "passed": verdict.passed,
        "reference": "champion" if round_.champion else "base",
        "champion_version": round_.champion.version if round_.champion else None,
        "candidate_digest": candidate_digest,
        "alpha_spent": _rounded(verdict.alpha_spent),
        # without a canary, the digest of a verdict is that of earlier releases
        **({"canary_level": _rounded(verdict.canary_level)} if verdict.canary_level else {}),
        "test_epoch": round_.test_epoch,
        "look": verdict.look,
        "detectable_gain": _rounded(verdict.detectable_gain),
        "rows_needed": verdict.rows_needed,
        "test_rows": verdict.test_rows,
        "judged_families": judged,
        "checks": [
            {
                **asdict(check),
                "number": _rounded(check.number),
                "bound": _rounded(check.bound),
                "interval": [_rounded(end) for end in check.interval] if check.interval else None,
            }
            for check in verdict.checks
        ],
    }


def summarise(verdict: Verdict, reference: str, judged: list[str]) -> list[str]:
    """The verdict as text: a line with the result, a line per failed check, and one with the families that the judge decides."""
    by_judge = [f"gate: the judge's verdicts are the scores of {', '.join(judged)}"] if judged else []
    return _result(verdict, reference) + by_judge


def _result(verdict: Verdict, reference: str) -> list[str]:
    if verdict.passed:
        better = next(check for check in verdict.checks if check.name == "better")
        return [f"gate: passed, better than the {reference}: {better.detail}"]
    lines = [f"gate:   {check.name}: {check.detail}" for check in verdict.failed]
    return [f"gate: {verdict.outcome}{rows_needed_text(verdict.rows_needed)}", *lines]


def _with_drift(metrics: dict[str, Any], settings: GateSettings, round_: Round) -> dict[str, Any]:
    """The metrics, with the drift of the candidate's data if a limit needs it."""
    if not any(split_path(path)[0] == "drift" for path in settings.limits):
        return metrics
    candidate = {**metrics["models"]["candidate"], "drift": drift_numbers(round_)}
    return {**metrics, "models": {**metrics["models"], "candidate": candidate}}


def _read_predictions(role: str, judged: list[str], needs_prompts: bool = False) -> pa.Table:
    path = paths.PREDICTIONS / f"{role}.parquet"
    columns = [*COLUMNS, *([JUDGE_SCORE] if judged else ()), *([PROMPT] if needs_prompts else ())]
    try:
        return with_judged_scores(pq.read_table(path, columns=columns), judged)
    except FileNotFoundError as error:
        raise DataError("not found", where=str(path), fix="Make it: dvc repro evaluate") from error
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise _unreadable(path, error) from error


def _read_metrics(round_: Round) -> tuple[dict[str, Any], str]:
    """The content of metrics.json, which must be about the round's champion, and the candidate's weights digest."""
    try:
        metrics = read_json(paths.METRICS)
        models = metrics["models"]
        candidate = str(models["candidate"]["weights_digest"])
        champion = str(models["champion"]["weights_digest"]) if round_.champion else ""
    except FileNotFoundError as error:
        raise DataError("not found", where=str(paths.METRICS), fix="Make it: dvc repro evaluate") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(paths.METRICS, error) from error
    if round_.champion and champion != round_.champion.weights_digest:
        raise DataError(
            f"is about another champion ({champion[:8]}) than the round's ({round_.champion.weights_digest[:8]})",
            where=str(paths.METRICS),
            fix="Make it again: dvc repro evaluate",
        )
    return metrics, candidate


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"not what evaluate writes ({damage_reason(error)})",
        where=str(path),
        fix="Make it again: dvc repro --force evaluate",
    )


def _rounded(number: float | None) -> float | None:
    """Six significant digits: enough to read, and equal on machines that differ in the last bit."""
    return None if number is None else float(f"{number:.6g}")
