"""Makes the parts of the dataset in the order of their batches, and recalls those that are known."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import paths
from tasks.curate.cache import PARTS, SKETCHES, making, read_whole
from tasks.curate.decide import decide
from tasks.curate.decided import Decided
from tasks.curate.dedup.known import NOWHERE, Known
from tasks.curate.dedup.sketch_file import SketchWriter, read_ids, read_sketch
from tasks.curate.part import read_sides, write_part
from tasks.curate.raw_rows import RawRows, Texts
from tasks.curate.settings import CurateSettings
from tasks.curate.sketch_batch import ROWS_AT_ONCE, sketch_batch
from tasks.curate.spool import Spool
from tasks.runtime.cores import cores
from tasks.runtime.files import content_digest, file_digest, read_json, write_json
from tasks.runtime.import_closure import code_digest
from tasks.runtime.progress import Progress
from tasks.runtime.sealed_folder import is_whole
from tasks.state.decisions import Decision, decided_rows, excluded_batches, pinned_rows
from tasks.state.manifest import Batch


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
        self.pinned = pinned_rows(decisions)
        self.entries: list[Entry] = []
        self.used: set[str] = set()
        self.processes = settings.processes or cores()
        without_processes = settings.model_dump(exclude={"processes"}, mode="json")
        self._settings_digest = content_digest([without_processes, code_digest("tasks/curate"), pa.__version__])
        self._state = self._settings_digest
        self._raw_rows = RawRows(settings)
        self._batches: list[Batch] = []
        self._known: Known | None = Known()

    def curate(self, batch: Batch, progress: Progress) -> Entry:
        """The batch's part, made where it is not known yet."""
        self._batches.append(batch)
        is_excluded = batch.batch in self.excluded
        verdict = paths.VALIDATED / batch.part
        accepted = file_digest(verdict) if verdict.exists() else ""
        sketch = SKETCHES / content_digest([self._settings_digest, batch.sha256, accepted, is_excluded])[:32]
        with ExitStack() as stack:
            spool = None
            if not is_whole(sketch):
                spool = stack.enter_context(Spool(paths.CURATE_CACHE))
                self._sketch(batch, sketch, _accepted(verdict, is_excluded), spool, progress)
            else:
                progress.advance(batch.rows)
            decided = self._decisions_on(sketch) if (self.released or self.forgotten or self.pinned) else []
            self._state = content_digest([self._state, batch.part, sketch.name, decided])
            entry = Entry(batch, sketch, PARTS / self._state[:32], is_excluded)
            if is_whole(entry.folder):
                self._known = None  # read again only if a later part must be made
            else:
                self._make(entry, spool)
        self.entries.append(entry)
        self.used |= {sketch.name, entry.folder.name}
        return entry

    def _decisions_on(self, sketch: Path) -> list[Any]:
        """The decisions on rows of the batch."""
        ids = set(read_ids(sketch))
        pins = [[row_id, self.pinned[row_id]] for row_id in sorted(ids & self.pinned.keys())]
        return [sorted(ids & self.released), sorted(ids & self.forgotten), pins]

    def _sketch(self, batch: Batch, folder: Path, accepted: Any, spool: Spool, progress: Progress) -> None:
        if accepted is None or accepted:
            self._raw_rows.check(batch)
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

    def _read_known(self) -> Known:
        """The rows of the entries so far."""
        known = Known()
        sketches = [read_sketch(entry.sketch) for entry in self.entries]
        for entry, sketch in zip(self.entries, sketches, strict=True):
            known.append(sketch, entry.batch.source, *read_sides(entry.folder))
        places = {entry.batch.batch: place for place, entry in enumerate(self.entries)}
        for entry in self.entries:
            for change in read_whole(entry.folder / "changes.parquet").to_pylist():
                known.side[known.row_at(places[change["batch"]], change["index"])] = NOWHERE
        if sketches:
            known.index_rows(sketches)
        return known

    def _make(self, entry: Entry, spool: Spool | None) -> None:
        """Decides on the batch and writes its part."""
        if self._known is None:
            self._known = self._read_known()
        sketch = read_sketch(entry.sketch)
        ids = sketch.lines["row_id"].to_pylist()
        released = np.array([row_id in self.released for row_id in ids], np.bool_)
        is_ghost = np.array([entry.is_excluded or row_id in self.forgotten for row_id in ids], np.bool_)
        places = sketch.lines["index"].to_numpy()
        texts = Texts(self._batches, self._raw_rows, spool)
        pinned = [self.pinned.get(row_id, "") for row_id in ids] if self.pinned else []
        source = entry.batch.source
        decided = decide(self._known, sketch, source, self.settings, released, is_ghost, texts, pinned)
        taken_out = self._taken_out(decided)
        rows = spool or self._raw_rows.some_at_a_time(entry.batch, places.tolist())
        with making(entry.folder) as temporary:
            write_part(temporary, rows, decided, is_ghost, taken_out, read_json(entry.sketch / "cleaned.json"))

    def _taken_out(self, decided: Decided) -> list[dict[str, Any]]:
        found = []
        for change in sorted(decided.changes, key=lambda each: (each.batch, each.index)):
            (judged,) = self._raw_rows.cleaned(self._batches[change.batch], [change.index])
            found.append({**judged.row, "by": change.by, "reason": change.reason, "side": change.side})
        return found


def _accepted(verdict: Path, is_excluded: bool) -> list[int] | None:
    """Places in the batch; None for every record that is a row."""
    if is_excluded:
        return None
    return read_whole(verdict)["index"].to_pylist() if verdict.exists() else []
