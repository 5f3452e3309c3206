"""Room `validate`: raw batches → accepted rows, and a quarantine with one reason per row. Run: `dvc repro validate`.

A batch over the bound on refused rows is set aside whole; the other batches continue.

A batch is read twice, in chunks of records, by several processes: the first pass evaluates the rules, the second, once the verdict
on the batch is known, writes the refused records. Memory holds a few chunks of text.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict
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
from tasks.runtime.sealed_folder import sealed_folder
from tasks.runtime.spawned_workers import Workers
from tasks.state.decisions import Decision, decided_rows, excluded_batches, read_decisions
from tasks.state.manifest import Batch, read_manifest
from tasks.validate import cache
from tasks.validate.chunks import family_of, read_chunks
from tasks.validate.contract.contract import Contract, FamilyContract
from tasks.validate.judge import Facts, RuleResults, Verdict, check_rules, decide, merge_chunks, ranked
from tasks.validate.load_contract import load_contract
from tasks.validate.quarantine_rows import quarantine_rows
from tasks.validate.report import make_report, report_lines
from tasks.validate.settings import ValidateSettings

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)


def run(config: PipelineConfig) -> None:
    """Writes data/validated, data/quarantine/validate and data/reports/validate.json.

    Raises:
        ConfigError: the contract is invalid.
        DataError: there are no batches, one is missing or changed, or no row is accepted.
    """
    settings = config.validate_
    validator = Validator(settings, load_contract(), read_decisions())
    batches = read_manifest()
    if not batches:
        raise DataError("there is no batch", where=str(paths.RAW), fix="Ingest one: python -m tasks ingest")
    require_unchanged(batches)
    for folder in (paths.VALIDATED, paths.QUARANTINE / "validate"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    outcomes = []
    with track("validate", sum(batch.rows for batch in batches), "rows") as progress:
        try:
            for batch in batches:
                outcomes.append((batch, validator.validate(batch, progress)))
        finally:
            validator.workers.close()
    report = make_report(outcomes)
    write_json(paths.VALIDATE_REPORT, report)
    for line in [*report_lines(report, settings.max_refused_share), *validator.finish(batches)]:
        logger.info(line)
    if not report["accepted"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in ranked(report["reasons"])[:3])
        why = f"none of {report['rows']:,} rows was accepted ({reasons or 'every batch is excluded'})"
        raise DataError(why, where=str(paths.QUARANTINE / "validate"), fix="List the reasons: strop quarantine list")


class Validator:
    """Judges batches; a batch with a cached verdict is not judged again."""

    def __init__(self, settings: ValidateSettings, contract: Contract, decisions: list[Decision]) -> None:
        self.settings = settings
        self.contract = contract
        self.workers = Workers(settings.processes or cores(), "validate")
        self.excluded = excluded_batches(decisions)
        self.released = frozenset(decided_rows(decisions, "release"))
        self.dropped = frozenset(decided_rows(decisions, "drop"))
        self.used_keys: set[str] = set()
        self.has_new_docs = False

    def validate(self, batch: Batch, progress: Progress) -> Facts | None:
        """Judges the batch and writes its rows to the outputs; returns None for an excluded batch."""
        if batch.batch in self.excluded:
            progress.advance(batch.rows)
            return None
        key, facts = self._cached(batch)
        if facts is None:
            key, facts = self._judge(batch, progress)
        else:
            progress.advance(batch.rows)
        self.used_keys.add(key)
        cache.publish(key, batch.part, facts)
        return facts

    def finish(self, batches: list[Batch]) -> list[str]:
        """Builds Data Docs if a batch was judged, and removes unused cache entries; returns lines to print."""
        cache.remove_unused(self.used_keys, batches)
        if not self.has_new_docs:
            return []
        from tasks.validate.gx.expectations import build_docs

        error = build_docs()
        return [f"validate: note: {error}" if error else f"validate: Data Docs: {paths.DATA_DOCS}/index.html"]

    def _cached(self, batch: Batch) -> tuple[str, Facts | None]:
        family = cache.family_of(batch)
        if family is None:
            return "", None
        row_ids = cache.row_ids_of(batch) if self.released or self.dropped else frozenset()
        if row_ids is None:
            return "", None
        key = self._key(batch, self.contract.of(family), row_ids)
        return key, cache.load_verdict(key)

    def _judge(self, batch: Batch, progress: Progress) -> tuple[str, Facts]:
        check_raw(batch)
        family = family_of(batch)
        contract = self.contract.of(family)
        jobs = ((records, batch, first, contract) for first, records in read_chunks(batch))
        chunks = []
        for chunk in self.workers.map(check_chunk, jobs):
            chunks.append(chunk)
            progress.advance(len(chunk.row_ids))
        results = merge_chunks(chunks, contract)
        bound = self.settings.max_refused_share
        verdict = decide(results, contract, bound, self.released, self.dropped, batch.batch, batch.source)
        row_ids = results.row_ids.to_pylist() if self.released or self.dropped else []
        key = self._key(batch, contract, row_ids)
        with sealed_folder(cache.folder_of(key)) as folder:
            write_json(folder / cache.FACTS, asdict(verdict.facts))
            write_parquet(folder / cache.ACCEPTED, verdict.accepted)
            with ParquetStream(folder / cache.QUARANTINED, QUARANTINE_SCHEMA) as stream:
                for rows in self.workers.map(quarantine_rows, _refused(batch, verdict, contract)):
                    stream.write(rows)
            if self.settings.data_docs:
                self._check(batch, contract, family, verdict)
        cache.store_identity(batch, family, results.row_ids)
        return key, verdict.facts

    def _check(self, batch: Batch, contract: FamilyContract, family: str, verdict: Verdict) -> None:
        from tasks.validate.gx.expectations import check_batch, recorded_frame, rows_frame

        chunks = list(itertools.islice(read_chunks(batch), 2))
        is_small = len(chunks) == 1
        frame = rows_frame(to_rows(chunks[0][1], batch)) if is_small else recorded_frame(verdict.results, contract)
        check_batch(frame, contract, verdict.facts, family, self.settings.max_refused_share)
        self.has_new_docs = True

    def _key(self, batch: Batch, contract: FamilyContract, row_ids: Collection[str]) -> str:
        row_decisions = [("release", row_id) for row_id in self.released.intersection(row_ids)]
        row_decisions += [("drop", row_id) for row_id in self.dropped.intersection(row_ids)]
        digest = content_digest(contract.model_dump(mode="json"))
        return cache.key_of(batch, digest, self.settings, row_decisions)


def check_chunk(chunk: pa.Table, batch: Batch, first: int, contract: FamilyContract) -> RuleResults:
    """Parses a chunk of a raw batch and evaluates every rule on it."""
    return check_rules(to_rows(chunk, batch, range(first, first + chunk.num_rows)), contract)


def _refused(batch: Batch, verdict: Verdict, contract: FamilyContract) -> Iterator[tuple[Any, ...]]:
    """The arguments of `quarantine_rows` for each chunk with a refused record: its text is read a second time."""
    if not verdict.facts.refused:
        return
    for first, chunk in read_chunks(batch):
        reasons = verdict.reasons[first : first + chunk.num_rows]
        if any(reasons):
            # a copy: pickling a slice sends the whole table
            row_ids = verdict.results.row_ids.take(pa.array(range(first, first + chunk.num_rows)))
            yield chunk, row_ids, reasons, batch, first, contract
