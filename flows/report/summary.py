"""The results of the last run, read from its reports: `read_summary(config)`. Printed by terminal.py and markdown.py.

The part of a missing report is empty: a summary is available at any time (`strop status`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.report.answer_notes import answer_notes
from flows.report.drift_summary import Drift, drift_of
from flows.report.row_table import Data, read_data
from flows.report.sample_answers import Answers, choose_answers
from tasks import paths
from tasks.config import PipelineConfig
from tasks.errors import DataError
from tasks.finetune.objective_table import OBJECTIVES
from tasks.model_store import versions
from tasks.model_store.ledger import Entry, champion_of, read_ledger
from tasks.promote.candidates import as_time, waiting_candidates
from tasks.runtime.files import read_json
from tasks.state.decisions import excluded_batches, read_decisions
from tasks.state.manifest import read_manifest
from tasks.vcs.dvc_outputs import dataset_version

Interval = tuple[float, float]

ROLES = ("base", "champion", "candidate")


@dataclass(frozen=True)
class Score:
    score: float
    interval: Interval | None


@dataclass(frozen=True)
class FamilyScores:
    family: str
    """A task family, or `overall`, if all families have one metric."""
    measure: str
    rows: int
    scores: dict[str, Score]
    """Role → score."""


@dataclass(frozen=True)
class Summary:
    model: str
    dataset: str | None
    """The dataset's version: DVC's hash of data/curated, from dvc.lock."""
    data: Data | None
    drift: Drift | None
    """Drift from the champion's data; None if the dataset is the champion's, or no run has measured it yet."""
    families: list[FamilyScores]
    perplexity: dict[str, float]
    """Role → perplexity of the validation answers."""
    valid_losses: dict[str, dict[str, float]]
    """Family → role → loss of the validation answers' tokens, in nats."""
    answer_notes: list[str]
    """Degenerate answers, targets that are too long, and the judge's verdicts (answer_notes.py)."""
    verdict: dict[str, Any] | None
    version: int | None
    """The candidate's version."""
    champion: int | None
    new_batches: list[dict[str, Any]]
    """Batches that the champion was not trained on: batch, source, rows, refused."""
    answers: list[Answers]
    next_commands: list[tuple[str, str]]
    """(command, what it shows)."""
    report: str | None = None
    """The HTML report of the last run, if there is one."""
    unrecorded: str | None = None
    """The dataset in data/curated, if it is not the one in dvc.lock; the row counts are then its own. Set by `strop status`."""

    @property
    def test_rows(self) -> int:
        return sum(family.rows for family in self.families if family.family != "overall")

    @property
    def roles(self) -> list[str]:
        """The models with a score."""
        return [role for role in ROLES if any(role in family.scores for family in self.families)]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_summary(config: PipelineConfig) -> Summary:
    """Reads the reports in data/reports, the predictions and the ledger."""
    model = config.register_.model_name
    entries = read_ledger(model)
    champion = champion_of(entries)
    metrics, verdict = read_report(paths.METRICS), read_report(paths.VERDICT)
    version = _version_of(entries, verdict)
    new_batches = _new_batches(model, champion) if champion else []
    models = metrics["models"] if metrics else {}
    dataset = dataset_version()
    return Summary(
        model=model,
        dataset=dataset,
        data=read_row_counts(),
        drift=drift_of(read_report(paths.DRIFT), dataset),
        families=_families(models),
        perplexity=_perplexity(models),
        valid_losses=_valid_losses(models),
        answer_notes=answer_notes(metrics, ROLES),
        verdict=verdict,
        version=version,
        champion=champion.version if champion else None,
        new_batches=new_batches,
        answers=choose_answers(),
        report=str(paths.REPORT) if paths.REPORT.exists() else None,
        next_commands=_next_commands(
            verdict,
            _decision_commands(config, entries, version),
            version,
            champion,
            new_batches,
            config.finetune.objective,
        ),
    )


def read_row_counts() -> Data | None:
    return read_data(*map(read_report, (paths.VALIDATE_REPORT, paths.CURATE_REPORT, paths.RENDER_REPORT)))


def read_report(path: Path) -> Any:
    """The content of a report; None if there is none. Raises DataError if it is not a mapping."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    if content is not None and not isinstance(content, dict):
        raise DataError("damaged (not a mapping)", where=str(path), fix="Remove it, then run again")
    return content


def _families(models: Any) -> list[FamilyScores]:
    names = sorted({name for entry in models.values() for name in entry["families"]})
    table = []
    has_mean = any("overall" in entry for entry in models.values())
    for name in [*names, *(["overall"] if has_mean else [])]:
        entries = {
            role: models[role].get("overall") if name == "overall" else models[role]["families"].get(name)
            for role in ROLES
            if role in models
        }
        scores = {role: Score(e["score"], _interval(e.get("interval"))) for role, e in entries.items() if e}
        first = next(entry for entry in entries.values() if entry)
        table.append(FamilyScores(name, first.get("measure", ""), first["rows"], scores))
    return table


def _interval(ends: Any) -> Interval | None:
    return (float(ends[0]), float(ends[1])) if ends else None


def _perplexity(models: Any) -> dict[str, float]:
    values = {role: models[role].get("valid_perplexity") for role in ROLES if role in models}
    return {role: float(value) for role, value in values.items() if value is not None}


def _valid_losses(models: Any) -> dict[str, dict[str, float]]:
    losses: dict[str, dict[str, float]] = {}
    for role in (role for role in ROLES if role in models):
        for family, measured in (models[role].get("valid_losses") or {}).items():
            losses.setdefault(family, {})[role] = float(measured["loss"])
    return losses


def _version_of(entries: list[Entry], verdict: Any) -> int | None:
    """The newest version with the weights in the verdict."""
    digest = verdict["candidate_digest"] if verdict else None
    numbers = [entry.version for entry in entries if entry.kind == "judged" and entry.weights_digest == digest]
    return numbers[-1] if numbers else None


def _new_batches(model: str, champion: Entry) -> list[dict[str, Any]]:
    receipt = versions.version_receipt(model, champion.version)
    if receipt is None:
        return []
    trained = {entry["batch"] for entry in receipt["manifest"]}
    excluded = excluded_batches(read_decisions())
    refused = {b["batch"]: b["refused"] for b in (read_report(paths.VALIDATE_REPORT) or {}).get("batches", [])}
    return [
        {"batch": batch.batch, "source": batch.source, "rows": batch.rows, "refused": refused.get(batch.batch, 0)}
        for batch in read_manifest()
        if batch.batch not in trained | excluded
    ]


def _decision_commands(config: PipelineConfig, entries: list[Entry], version: int | None) -> list[tuple[str, str]]:
    """The commands that decide about a version that waits; none for another one."""
    candidate = next((each for each in waiting_candidates(config, entries) if each.version == version), None)
    if candidate is None:
        return []
    if candidate.until is None:
        return [(f"strop promote {version}", "promote it")]
    if candidate.is_expired:
        return [("strop run --rejudge", f"judge version {version} again: its approval expired")]
    until = as_time(candidate.until)
    return [
        (f'strop approve {version} --why "…"', f"promote it, until {until}"),
        (f'strop reject {version} --why "…"', "it will not serve"),
    ]


def _next_commands(
    verdict: Any,
    decision: list[tuple[str, str]],
    version: int | None,
    champion: Entry | None,
    new_batches: list[dict[str, Any]],
    objective: str,
) -> list[tuple[str, str]]:
    commands = []
    if verdict and not verdict["passed"]:
        for batch in new_batches[-3:]:
            what = f"exclude this batch of {batch['source']}"
            commands.append((f'strop data exclude {batch["batch"]} --why "…"', what))
    commands += decision
    if paths.VALIDATE_REPORT.exists():
        commands.append(("strop quarantine list", "the refused rows, with reasons"))
    commands.append(("strop history", "all versions and promotions"))
    if version:
        commands.append((f"strop audit {version}", f"check version {version} against its receipt"))
    head = OBJECTIVES[objective].head
    if champion and head == "labels":
        commands.append(('strop generate "…"', f"classify a text with version {champion.version}"))
    elif champion and head != "reward":
        commands.append(("strop chat", f"chat with version {champion.version}"))
    return commands
