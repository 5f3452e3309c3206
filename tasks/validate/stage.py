"""Room `validate`: raw batches → accepted rows, and quarantine with a reason a row. Run it: `dvc repro validate`.

A batch over the bound on refused rows is set aside whole, and the run goes on with the rest.

A batch is looked at twice, a chunk of records at a time, in several processes: first every rule is asked, then, when the
verdict on the whole is known, the refused records are written. No more of its text than a few chunks is ever held.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tasks import paths
from tasks.errors import DataError
from tasks.records.parse import check_raw, to_rows
from tasks.records.raw_bytes import require_unchanged
from tasks.records.row import QUARANTINE_SCHEMA
from tasks.runtime.cores import cores
from tasks.runtime.files import ParquetStream, content_digest, write_json, write_parquet
from tasks.runtime.progress import Progress, track
from tasks.state.decisions import Decision, decided_rows, excluded_batches, read_decisions
from tasks.state.manifest import Batch, read_manifest
from tasks.validate import cache
from tasks.validate.chunks import family_of, read_chunks
from tasks.validate.contract.contract import Contract, FamilyContract
from tasks.validate.judge import Facts, Findings, Verdict, decide, find, fold
from tasks.validate.load_contract import load_contract
from tasks.validate.processes import Workers
from tasks.validate.quarantine_rows import refused_lines
from tasks.validate.report import Outcome, make_report, ranked, tell
from tasks.validate.settings import ValidateSettings

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)


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
    require_unchanged(batches)
    for folder in (paths.VALIDATED, paths.QUARANTINE / "validate"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    outcomes = []
    with track("validate", sum(batch.rows for batch in batches), "rows") as progress:
        try:
            for batch in batches:
                outcomes.append(Outcome(batch, validator.validate(batch, progress)))
        finally:
            validator.workers.close()
    report = make_report(outcomes)
    write_json(paths.VALIDATE_REPORT, report)
    for line in [*tell(report, settings.max_refused_share), *validator.finish(batches)]:
        logger.info(line)
    if not report["accepted"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in ranked(report["reasons"])[:3])
        why = f"not one of {report['rows']:,} rows was accepted ({reasons or 'every batch is excluded'})"
        raise DataError(why, where=str(paths.QUARANTINE / "validate"), fix="See why: strop quarantine list")


class Validator:
    """Judges batches, and recalls the verdicts that it already knows."""

    def __init__(self, settings: ValidateSettings, contract: Contract, decisions: list[Decision]) -> None:
        self.settings = settings
        self.contract = contract
        self.workers = Workers(settings.processes or cores())
        self.excluded = excluded_batches(decisions)
        self.released = frozenset(decided_rows(decisions, "release"))
        self.dropped = frozenset(decided_rows(decisions, "drop"))
        self.used: set[str] = set()
        self.has_new_docs = False

    def validate(self, batch: Batch, progress: Progress) -> Facts | None:
        """The batch's verdict, its rows put into the outputs; None where people excluded it."""
        if batch.batch in self.excluded:
            progress.advance(batch.rows)
            return None
        key, facts = self._recall(batch)
        if facts is None:
            key, facts = self._judge(batch, progress)
        else:
            progress.advance(batch.rows)
        self.used.add(key)
        cache.hand_out(key, batch.part, facts)
        return facts

    def finish(self, batches: list[Batch]) -> list[str]:
        """Builds Data Docs if there is anything new in them, and tidies up; returns what a person should know."""
        cache.forget_unused(self.used, batches)
        if not self.has_new_docs:
            return []
        from tasks.validate.gx.expectations import build_docs

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

    def _judge(self, batch: Batch, progress: Progress) -> tuple[str, Facts]:
        check_raw(batch)
        family = family_of(batch)
        contract = self.contract.of(family)
        jobs = ((chunk, batch, first, contract) for first, chunk in read_chunks(batch))
        looked_at = []
        for each in self.workers.map(look_at, jobs):
            looked_at.append(each)
            progress.advance(len(each.row_ids))
        found = fold(looked_at, contract)
        bound = self.settings.max_refused_share
        verdict = decide(found, contract, bound, self.released, self.dropped, batch.batch, batch.source)
        key = self._key(batch, contract, frozenset(found.row_ids.to_pylist()) if self.released or self.dropped else ())
        with cache.keeping(key, verdict.facts) as folder:
            write_parquet(folder / cache.ACCEPTED, verdict.accepted)
            with ParquetStream(folder / cache.QUARANTINED, QUARANTINE_SCHEMA) as stream:
                for lines in self.workers.map(refused_lines, _refused(batch, verdict, contract)):
                    stream.write(lines)
            if self.settings.data_docs:
                self._check(batch, contract, family, verdict)
        cache.keep_identity(batch, family, found.row_ids)
        return key, verdict.facts

    def _check(self, batch: Batch, contract: FamilyContract, family: str, verdict: Verdict) -> None:
        from tasks.validate.gx.expectations import check_batch, recorded_frame, rows_frame

        chunks = list(itertools.islice(read_chunks(batch), 2))
        is_small = len(chunks) == 1
        frame = rows_frame(to_rows(chunks[0][1], batch)) if is_small else recorded_frame(verdict.found, contract)
        check_batch(frame, contract, verdict.facts, family, self.settings.max_refused_share)
        self.has_new_docs = True

    def _key(self, batch: Batch, contract: FamilyContract, row_ids: Collection[str]) -> str:
        decided = [("release", row_id) for row_id in self.released.intersection(row_ids)]
        decided += [("drop", row_id) for row_id in self.dropped.intersection(row_ids)]
        digest = content_digest(contract.model_dump(mode="json"))
        return cache.key_of(batch, digest, self.settings, decided)


def look_at(chunk: pa.Table, batch: Batch, first: int, contract: FamilyContract) -> Findings:
    """Parses a chunk of a raw batch, and asks every rule of it."""
    return find(to_rows(chunk, batch, range(first, first + chunk.num_rows)), contract)


def _refused(batch: Batch, verdict: Verdict, contract: FamilyContract) -> Iterator[tuple[Any, ...]]:
    """The arguments of `refused_lines` for each chunk that holds a refused record: its text is read a second time."""
    if not verdict.facts.refused:
        return
    for first, chunk in read_chunks(batch):
        reasons = verdict.reasons[first : first + chunk.num_rows]
        if any(reasons):
            # a copy: a slice is sent to another process with all that it was cut from
            row_ids = verdict.found.row_ids.take(pa.array(range(first, first + chunk.num_rows)))
            yield chunk, row_ids, reasons, batch, first, contract
