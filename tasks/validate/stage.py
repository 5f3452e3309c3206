"""Room `validate`: raw batches → accepted rows, and quarantine with a reason a row. Run it: `dvc repro validate`.

A batch over the bound on refused rows is set aside whole, and the run goes on with the rest.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from tasks import paths
from tasks.decisions import Decision, decided_rows, excluded_batches, read_decisions
from tasks.errors import DataError
from tasks.files import content_digest, file_digest, write_json
from tasks.manifest import Batch, read_manifest
from tasks.progress import track
from tasks.validate import cache
from tasks.validate.contract import Contract, FamilyContract, load_contract
from tasks.validate.frame import to_frame
from tasks.validate.judge import Facts, judge
from tasks.validate.report import Outcome, make_report, ranked, tell
from tasks.validate.settings import ValidateSettings

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def run(config: PipelineConfig) -> None:
    """Writes data/validated, data/quarantine/validate and data/reports/validate.json.

    Raises:
        ConfigError: the contract says something that it may not.
        DataError: there are no batches, one is missing or changed, or not a row is accepted.
    """
    settings = config.validate_
    validator = Validator(settings, load_contract(), read_decisions())
    batches = read_manifest()
    if not batches:
        raise DataError("no batch was collected", where=str(paths.RAW), fix="Collect some: python -m tasks ingest")
    for folder in (paths.VALIDATED, paths.QUARANTINE / "validate"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    outcomes = []
    with track("validate", sum(batch.rows for batch in batches), "rows") as progress:
        for batch in batches:
            outcomes.append(Outcome(batch, validator.validate(batch)))
            progress.advance(batch.rows)
    report = make_report(outcomes)
    write_json(paths.VALIDATE_REPORT, report)
    for line in [*tell(report, settings.max_refused_share), *validator.finish()]:
        print(line, flush=True)
    if not report["accepted"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in ranked(report["reasons"])[:3])
        why = f"not one of {report['rows']:,} rows was accepted ({reasons or 'every batch is excluded'})"
        raise DataError(why, where=str(paths.QUARANTINE / "validate"), fix="See why: strop quarantine list")


class Validator:
    """Judges batches, and recalls the verdicts that it already knows."""

    def __init__(self, settings: ValidateSettings, contract: Contract, decisions: list[Decision]) -> None:
        self.settings = settings
        self.contract = contract
        self.excluded = excluded_batches(decisions)
        self.released = frozenset(decided_rows(decisions, "release"))
        self.dropped = frozenset(decided_rows(decisions, "drop"))
        self.used: set[str] = set()
        self.has_new_docs = False

    def validate(self, batch: Batch) -> Facts | None:
        """The batch's verdict, its rows put into the outputs; None where people excluded it."""
        if batch.batch in self.excluded:
            return None
        key, facts = self._recall(batch)
        if facts is None:
            key, facts = self._judge(batch)
        self.used.add(key)
        cache.hand_out(key, batch.part, facts)
        return facts

    def finish(self) -> list[str]:
        """Builds Data Docs if there is anything new in them, and tidies up; returns what a person should know."""
        cache.forget_unused(self.used)
        if not self.has_new_docs:
            return []
        from tasks.validate.expectations import build_docs

        wrong = build_docs()
        return [f"validate: note: {wrong}" if wrong else f"validate: Data Docs: {paths.DATA_DOCS}/index.html"]

    def _recall(self, batch: Batch) -> tuple[str, Facts | None]:
        family = cache.family_of(batch)
        if family is None:
            return "", None
        row_ids = cache.row_ids_of(batch) if self.released or self.dropped else frozenset()
        if row_ids is None:
            return "", None
        key = self._key(batch, self.contract.of(family), row_ids)
        return key, cache.recall(key)

    def _judge(self, batch: Batch) -> tuple[str, Facts]:
        raw = pq.read_table(_checked(batch))
        frame = to_frame(raw, batch)
        family = str(frame["family"].iloc[0])
        contract = self.contract.of(family)
        judged = judge(frame, contract, self.settings.max_refused_share, self.released, self.dropped)
        if self.settings.data_docs:
            from tasks.validate.expectations import check_batch

            check_batch(frame, contract, judged.facts, family, self.settings.max_refused_share)
            self.has_new_docs = True
        row_ids = frame["row_id"].tolist()
        cache.keep_identity(batch, family, row_ids)
        key = self._key(batch, contract, frozenset(row_ids))
        cache.keep(key, judged)
        return key, judged.facts

    def _key(self, batch: Batch, contract: FamilyContract, row_ids: frozenset[str]) -> str:
        decided = [("release", row_id) for row_id in self.released & row_ids]
        decided += [("drop", row_id) for row_id in self.dropped & row_ids]
        digest = content_digest(contract.model_dump(mode="json"))
        return cache.key_of(batch, digest, self.settings, decided)


def _checked(batch: Batch) -> Path:
    """The batch's file, if it is there and is what it was."""
    fix = "Bring it back: dvc checkout data/raw.dvc"
    if not batch.path.exists():
        raise DataError("is in the manifest, but not on the disk", where=str(batch.path), fix=fix)
    if file_digest(batch.path) != batch.sha256:
        raise DataError("changed since it was collected", where=str(batch.path), fix=fix)
    return batch.path
