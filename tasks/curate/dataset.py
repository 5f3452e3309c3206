"""Makes the parts of the dataset in the order of their batches, and recalls those that are known."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import paths
from tasks.curate.cache import PARTS, SKETCHES, making
from tasks.curate.filters import JudgedRow
from tasks.curate.fold import Decided, decide
from tasks.curate.known import NOWHERE, Known, known_of
from tasks.curate.part import read_sides, write_part
from tasks.curate.settings import CurateSettings
from tasks.curate.sketch_file import Indices, SketchWriter, read_ids, read_sketch
from tasks.curate.sketching import ROWS_AT_ONCE, clean_rows, read_rows, sketch_batch, to_clean_table
from tasks.curate.split import input_text, passage_text
from tasks.curate.spool import Spool
from tasks.decisions import Decision, decided_rows, excluded_batches
from tasks.files import content_digest, file_digest, read_json, write_json
from tasks.manifest import Batch
from tasks.progress import Progress
from tasks.records import code_digest


@dataclass(frozen=True)
class Entry:
    """A batch's sketch and part."""

    batch: Batch
    sketch: Path
    folder: Path
    is_excluded: bool


class Curator:
    """Curates batches, which must come in their order."""

    def __init__(self, settings: CurateSettings, decisions: list[Decision]) -> None:
        self.settings = settings
        self.excluded = excluded_batches(decisions)
        self.released = decided_rows(decisions, "release")
        self.forgotten = {each.which for each in decisions if each.what == "forget"}
        self.entries: list[Entry] = []
        self.used: set[str] = set()
        self.processes = settings.processes or os.cpu_count() or 1
        without_processes = settings.model_dump(exclude={"processes"}, mode="json")
        self._settings_digest = content_digest([without_processes, code_digest(Path(__file__).parent)])
        self._state = self._settings_digest
        self._known: list[Known] | None = []

    def curate(self, batch: Batch, progress: Progress) -> Entry:
        """The batch's part, made where it is not known yet."""
        is_excluded = batch.batch in self.excluded
        verdict = paths.VALIDATED / batch.part
        accepted = file_digest(verdict) if verdict.exists() else ""
        sketch = SKETCHES / content_digest([self._settings_digest, batch.sha256, accepted, is_excluded])[:32]
        with ExitStack() as stack:
            spool = None
            if not (sketch / "cleaned.json").exists():
                spool = stack.enter_context(Spool(paths.CURATE_CACHE))
                self._sketch(batch, sketch, _accepted(verdict, is_excluded), spool, progress)
            else:
                progress.advance(batch.rows)
            decided = self._decisions_on(sketch) if (self.released or self.forgotten) else []
            self._state = content_digest([self._state, batch.part, sketch.name, decided])
            entry = Entry(batch, sketch, PARTS / self._state[:32], is_excluded)
            if (entry.folder / "counts.json").exists():
                self._known = None  # read again only if a later part must be made
            else:
                self._make(entry, spool)
        self.entries.append(entry)
        self.used |= {sketch.name, entry.folder.name}
        return entry

    def _decisions_on(self, sketch: Path) -> list[list[str]]:
        """The decisions on rows of the batch."""
        ids = set(read_ids(sketch))
        return [sorted(ids & self.released), sorted(ids & self.forgotten)]

    def _sketch(self, batch: Batch, folder: Path, accepted: Any, spool: Spool, progress: Progress) -> None:
        cleaned: Counter[str] = Counter()
        share = batch.rows / max(1, -(-batch.rows // ROWS_AT_ONCE))
        with making(folder) as temporary:
            with SketchWriter(temporary) as writer:
                for chunk in sketch_batch(batch, accepted, self.settings, self.processes):
                    writer.add(chunk.sketch)
                    spool.add(chunk.rows)
                    cleaned.update(chunk.cleaned)
                    progress.advance(share)
            spool.finish()
            write_json(temporary / "cleaned.json", dict(sorted(cleaned.items())))

    def _read_known(self) -> list[Known]:
        """The rows of the entries so far that later ones are compared with."""
        known = [self._known_of(place, entry) for place, entry in enumerate(self.entries)]
        for entry in self.entries:
            _apply(known, self.entries, pq.read_table(entry.folder / "changes.parquet").to_pylist())
        return known

    def _known_of(self, place: int, entry: Entry) -> Known:
        sides, is_ghost = read_sides(entry.folder)
        return known_of(read_sketch(entry.sketch), place, sides, is_ghost)

    def _make(self, entry: Entry, spool: Spool | None) -> None:
        """Decides on the batch and writes its part."""
        if self._known is None:
            self._known = self._read_known()
        sketch = read_sketch(entry.sketch)
        ids = sketch.lines["row_id"].to_pylist()
        released = np.array([row_id in self.released for row_id in ids], np.bool_)
        is_ghost = np.array([entry.is_excluded or row_id in self.forgotten for row_id in ids], np.bool_)
        places = sketch.lines["index"].to_numpy()
        texts = _Texts([each.batch for each in [*self.entries, entry]], self.settings, spool)
        decided = decide(self._known, sketch, self.settings, released, is_ghost, texts)
        taken_out = self._taken_out(decided)
        rows = spool or _rows_again(entry.batch, places.tolist(), self.settings)
        with making(entry.folder) as temporary:
            write_part(temporary, rows, decided, is_ghost, taken_out, read_json(entry.sketch / "cleaned.json"))
        self._known.append(self._known_of(len(self.entries), entry))
        _apply(self._known, [*self.entries, entry], taken_out)

    def _taken_out(self, decided: Decided) -> list[dict[str, Any]]:
        found = []
        for change in sorted(decided.changes, key=lambda each: (each.batch, each.index)):
            (judged,) = _cleaned(self.entries[change.batch].batch, [change.index], self.settings)
            found.append({**judged.row, "by": change.by})
        return found


def _apply(known: list[Known], entries: list[Entry], changes: list[dict[str, Any]]) -> None:
    """Takes rows of earlier batches out of what later ones are compared with."""
    places = {entry.batch.batch: place for place, entry in enumerate(entries)}
    for change in changes:
        part = known[places[change["batch"]]]
        part.side[np.searchsorted(part.index, change["index"])] = NOWHERE


def _cleaned(batch: Batch, places: list[int], settings: CurateSettings) -> list[JudgedRow]:
    """Rows of a batch (ascending places), as curate has cleaned them."""
    return clean_rows(read_rows(batch, places[0], places[-1] + 1, places), settings)


def _accepted(verdict: Path, is_excluded: bool) -> list[int] | None:
    """Places in the batch; None for every record that is a row."""
    if is_excluded:
        return None
    return pq.read_table(verdict)["index"].to_pylist() if verdict.exists() else []


def _rows_again(batch: Batch, places: list[int], settings: CurateSettings) -> Iterator[pa.Table]:
    """The rows of a sketch that is known, some at a time."""
    for first in range(0, len(places), ROWS_AT_ONCE):
        yield to_clean_table(_cleaned(batch, places[first : first + ROWS_AT_ONCE], settings))


class _Texts:
    """The texts of rows: of the last batch from the spool, if there is one; of others from their raw batches."""

    def __init__(self, batches: list[Batch], settings: CurateSettings, spool: Spool | None) -> None:
        self.batches = batches
        self.settings = settings
        self.spool = spool

    def __call__(self, known: Known, rows: Indices) -> list[tuple[str, str, str]]:
        found: dict[tuple[int, int], tuple[str, str, str]] = {}
        batches = known.batch[rows]
        for number in np.unique(batches).tolist():
            for row in self._rows_of(known, number, np.unique(rows[batches == number])):
                found[number, row["index"]] = (input_text(row), row["output"], passage_text(row))
        return [found[pair] for pair in zip(batches.tolist(), known.index[rows].tolist(), strict=True)]

    def _rows_of(self, known: Known, number: int, rows: Indices) -> Iterator[dict[str, Any]]:
        if self.spool is not None and number == len(self.batches) - 1:
            first_new = int(np.searchsorted(known.batch, number))
            yield from self.spool.take(rows - first_new)
            return
        places = known.index[rows]
        for first in range(0, len(places), ROWS_AT_ONCE):
            some = places[first : first + ROWS_AT_ONCE].tolist()
            yield from (judged.row for judged in _cleaned(self.batches[number], some, self.settings))
