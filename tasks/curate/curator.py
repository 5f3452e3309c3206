"""Builds the parts of the dataset in the order of their batches; cached parts are not built again.

The cache is .strop/cache/curate, keyed by content: signatures depend on the batch, the rows that `validate` accepted, the settings
and the code; a part also on all batches before. It may be deleted: results are then computed again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import paths
from tasks.curate.batch_state import BatchState
from tasks.curate.decide import decide
from tasks.curate.dedup.known import NO_SPLIT, RowTable
from tasks.curate.dedup.sketch_file import SignatureWriter, read_ids, read_parquet, read_signatures
from tasks.curate.part import read_splits, write_part
from tasks.curate.raw_rows import RawRows, Texts
from tasks.curate.settings import CurateSettings
from tasks.curate.sketch_batch import ROWS_AT_ONCE, compute_signatures
from tasks.curate.spool import Spool
from tasks.runtime.cores import cores
from tasks.runtime.files import content_digest, file_digest, read_json, write_json
from tasks.runtime.import_closure import code_digest
from tasks.runtime.progress import Progress
from tasks.runtime.sealed_folder import is_whole, oldest_unused, sealed_folder
from tasks.state.decisions import Decision, decided_rows, excluded_batches, pinned_rows
from tasks.state.manifest import Batch

SIGNATURES = paths.CURATE_CACHE / "sketches"
PARTS = paths.CURATE_CACHE / "parts"
MAX_UNUSED = 256


@dataclass(frozen=True)
class Entry:
    """A batch with the folders of its signatures and of its part."""

    batch: Batch
    signatures: Path
    folder: Path
    is_excluded: bool


class Curator:
    """Curates batches, which must be passed in their order."""

    def __init__(self, settings: CurateSettings, decisions: list[Decision]) -> None:
        self.settings = settings
        self.excluded = excluded_batches(decisions)
        self.released = decided_rows(decisions, "release")
        self.forgotten = {decision.which for decision in decisions if decision.what == "forget"}
        self.pinned = pinned_rows(decisions)
        self.entries: list[Entry] = []
        self.used_entries: set[str] = set()
        self.processes = settings.processes or cores()
        without_processes = settings.model_dump(exclude={"processes"}, mode="json")
        self._settings_digest = content_digest([without_processes, code_digest("tasks/curate"), pa.__version__])
        self._digest = self._settings_digest
        self._raw_rows = RawRows(settings)
        self._batches: list[Batch] = []
        self._table: RowTable | None = RowTable()

    def curate(self, batch: Batch, progress: Progress) -> Entry:
        """The batch's part, built where it is not cached."""
        self._batches.append(batch)
        is_excluded = batch.batch in self.excluded
        verdict = paths.VALIDATED / batch.part
        accepted = file_digest(verdict) if verdict.exists() else ""
        signatures = SIGNATURES / content_digest([self._settings_digest, batch.sha256, accepted, is_excluded])[:32]
        with ExitStack() as stack:
            spool = None
            if not is_whole(signatures):
                spool = stack.enter_context(Spool(paths.CURATE_CACHE))
                self._compute_signatures(batch, signatures, _accepted_indices(verdict, is_excluded), spool, progress)
            else:
                progress.advance(batch.rows)
            decided = self._decisions_on(signatures) if (self.released or self.forgotten or self.pinned) else []
            self._digest = content_digest([self._digest, batch.part, signatures.name, decided])
            entry = Entry(batch, signatures, PARTS / self._digest[:32], is_excluded)
            if is_whole(entry.folder):
                self._table = None  # read again only if a later part must be built
            else:
                self._build_part(entry, spool)
        self.entries.append(entry)
        self.used_entries |= {signatures.name, entry.folder.name}
        return entry

    def remove_unused(self) -> None:
        """Removes the oldest cached results that this run did not use."""
        for folder in (SIGNATURES, PARTS):
            for path in oldest_unused(folder.glob("*"), self.used_entries, MAX_UNUSED):
                shutil.rmtree(path, ignore_errors=True)

    def _decisions_on(self, signatures: Path) -> list[Any]:
        """The decisions on rows of the batch: released, forgotten and pinned ones."""
        ids = set(read_ids(signatures))
        pins = [[row_id, self.pinned[row_id]] for row_id in sorted(ids & self.pinned.keys())]
        return [sorted(ids & self.released), sorted(ids & self.forgotten), pins]

    def _compute_signatures(self, batch: Batch, folder: Path, accepted: Any, spool: Spool, progress: Progress) -> None:
        if accepted is None or accepted:
            self._raw_rows.check(batch)
        cleaned: Counter[str] = Counter()
        share = batch.rows / max(1, -(-batch.rows // ROWS_AT_ONCE))
        with sealed_folder(folder) as temporary:
            with SignatureWriter(temporary) as writer:
                for processed in compute_signatures(batch, accepted, self.settings, self.processes):
                    writer.add(processed.signatures)
                    spool.add(processed.rows)
                    cleaned.update(processed.cleaned)
                    progress.advance(share)
            spool.finish()
            write_json(temporary / "cleaned.json", dict(sorted(cleaned.items())))

    def _read_row_table(self) -> RowTable:
        """The table of the rows of all entries so far."""
        table = RowTable()
        of_entries = [read_signatures(entry.signatures) for entry in self.entries]
        for entry, signatures in zip(self.entries, of_entries, strict=True):
            table.append(signatures, entry.batch.source, *read_splits(entry.folder))
        numbers = {entry.batch.batch: number for number, entry in enumerate(self.entries)}
        for entry in self.entries:
            for change in read_parquet(entry.folder / "changes.parquet").to_pylist():
                table.split[table.row_at(numbers[change["batch"]], change["index"])] = NO_SPLIT
        if of_entries:
            table.index_rows(of_entries)
        return table

    def _build_part(self, entry: Entry, spool: Spool | None) -> None:
        """Decides on the batch and writes its part."""
        if self._table is None:
            self._table = self._read_row_table()
        signatures = read_signatures(entry.signatures)
        ids = signatures.facts["row_id"].to_pylist()
        released = np.array([row_id in self.released for row_id in ids], np.bool_)
        is_tombstone = np.array([entry.is_excluded or row_id in self.forgotten for row_id in ids], np.bool_)
        indices = signatures.facts["index"].to_numpy()
        texts = Texts(self._table, self._batches, self._raw_rows, spool)
        pinned = [self.pinned.get(row_id, "") for row_id in ids] if self.pinned else []
        source, settings = entry.batch.source, self.settings
        state = BatchState(self._table, signatures, source, settings, released, is_tombstone, texts, pinned)
        decide(state)
        removed = self._removed_rows(state)
        rows = spool or self._raw_rows.in_portions(entry.batch, indices.tolist())
        with sealed_folder(entry.folder) as temporary:
            write_part(temporary, rows, state, removed, read_json(entry.signatures / "cleaned.json"))

    def _removed_rows(self, state: BatchState) -> list[dict[str, Any]]:
        """Rows of earlier parts (ROW_SCHEMA with `by`, `reason` and `split`) that the batch removes."""
        rows = []
        for change in sorted(state.changes.values(), key=lambda change: (change.batch, change.index)):
            (judged,) = self._raw_rows.cleaned(self._batches[change.batch], [change.index])
            rows.append({**judged.row, "by": change.by, "reason": change.reason, "split": change.split})
        return rows


def _accepted_indices(verdict: Path, is_excluded: bool) -> list[int] | None:
    """Indices in the batch; None for every record that is a row."""
    if is_excluded:
        return None
    return read_parquet(verdict)["index"].to_pylist() if verdict.exists() else []
