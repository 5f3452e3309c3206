"""A batch's accepted rows, cleaned, each with a sketch: all that the fold needs to know of it. Independent of other batches.

The sketch is kept by content (tasks/curate/cache.py), without the text, which stands in the raw batch; the text is made again
where it is needed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.curate.dedup.minhash import bands_of, fingerprints_of, rows_in_band, shingles_of, with_more
from tasks.curate.dedup.sketch_file import LINE_SCHEMA, Sketch
from tasks.curate.dedup.tokens import tokenise
from tasks.curate.filters import JudgedRow, judge_row
from tasks.curate.settings import CurateSettings
from tasks.curate.sides.split import (
    content_key,
    exchanges,
    input_text,
    last_prompt,
    passage_text,
    split_of,
)
from tasks.dataset.conflicts import conflict_key
from tasks.records.parse import fill_up, to_rows
from tasks.records.row import ROW_SCHEMA
from tasks.records.segmentation import normalise
from tasks.runtime.logs.setup import set_up_logs
from tasks.runtime.parent_watchdog import end_with_parent
from tasks.runtime.plugins import load_plugins, plugin_names
from tasks.runtime.terminal_text import prepare_streams
from tasks.state.manifest import Batch

ROWS_AT_ONCE = 10_000
"""A unit of work for one process."""
ROWS_WORTH_A_PROCESS = 20_000

CLEAN_SCHEMA = pa.schema([*ROW_SCHEMA, ("changed", pa.list_(pa.string()))])
"""Rows, cleaned and masked, and which of their fields that changed."""


@dataclass(frozen=True)
class Sketched:
    rows: pa.Table
    """CLEAN_SCHEMA."""
    sketch: Sketch
    cleaned: dict[str, int]
    """How many rows held each kind of dirt, or of personal data."""


def sketch_batch(
    batch: Batch, accepted: list[int] | None, settings: CurateSettings, processes: int
) -> Iterator[Sketched]:
    """The batch's rows, ROWS_AT_ONCE records at a time, in order.

    Args:
        accepted: places in the batch; None takes every record that is a row.
        processes: how many work at it; the result does not depend on it.
    """
    count = batch.rows
    ranges = [(first, min(first + ROWS_AT_ONCE, count)) for first in range(0, count, ROWS_AT_ONCE)]
    chosen = None if accepted is None else np.asarray(accepted, np.int64)
    jobs = [(batch, first, _between(chosen, first, last), last, settings) for first, last in ranges]
    if processes == 1 or count < ROWS_WORTH_A_PROCESS:
        yield from map(_sketch_range, jobs)
        return
    workers = min(processes, len(jobs))
    context, plugins = get_context("spawn"), plugin_names()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(plugins,)) as pool:
        waiting = deque(pool.submit(_sketch_range, job) for job in jobs[: 2 * workers])
        for job in [*jobs[2 * workers :], *[None] * len(waiting)]:  # few at once: what is done waits in memory
            yield waiting.popleft().result()
            if job is not None:
                waiting.append(pool.submit(_sketch_range, job))


def _begin(plugins: tuple[str, ...]) -> None:
    prepare_streams()
    set_up_logs("curate")
    end_with_parent()
    load_plugins(plugins, Path.cwd())


def _between(chosen: Any, first: int, last: int) -> Any:
    if chosen is None:
        return None
    return chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, last)]


def _sketch_range(job: tuple[Batch, int, Any, int, CurateSettings]) -> Sketched:
    batch, first, accepted, last, settings = job
    return sketch_rows(read_rows(batch, first, last, accepted), settings)


def read_rows(batch: Batch, first: int, last: int, places: Any = None) -> pa.Table:
    """Rows (ROW_SCHEMA) of a batch, as they came, from `first` up to before `last`.

    Args:
        places: places in the batch, ascending, within that range; None takes every record there that is a row.
    """
    wanted = np.arange(first, last) if places is None else np.asarray(places, np.int64)
    if not len(wanted):
        return ROW_SCHEMA.empty_table()
    with pq.ParquetFile(batch.path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        holders = np.searchsorted(starts, wanted, side="right") - 1
        groups = np.unique(holders)
        raw = fill_up(file.read_row_groups(groups.tolist()))
    read_before = np.cumsum([0, *(sizes[group] for group in groups.tolist())])[np.searchsorted(groups, holders)]
    rows = to_rows(raw.take(pa.array(wanted - starts[holders] + read_before)), batch, wanted.tolist())
    if places is None:
        rows = rows.filter(pc.equal(rows["problem"], ""))
    return rows.select(ROW_SCHEMA.names)


def clean_rows(rows: pa.Table, settings: CurateSettings) -> list[JudgedRow]:
    """Each row (ROW_SCHEMA) cleaned and masked, with the reason for which it is dropped."""
    return [judge_row(row, settings) for row in rows.to_pylist()]


def to_clean_table(judged: list[JudgedRow]) -> pa.Table:
    """CLEAN_SCHEMA."""
    return pa.Table.from_pylist([{**each.row, "changed": each.changed} for each in judged], CLEAN_SCHEMA)


def sketch_rows(rows: pa.Table, settings: CurateSettings) -> Sketched:
    """Cleans and sketches rows (ROW_SCHEMA)."""
    cleaned: Counter[str] = Counter()
    judged = clean_rows(rows, settings)
    for each in judged:
        cleaned.update(each.found)
    kept = [each.row for each in judged]
    inputs = [input_text(row) for row in kept]
    normalised = [normalise(text) for text in inputs]
    prompts = [
        text if row["history"] == "[]" and not row["system"] and last_prompt(row) else normalise(last_prompt(row))
        for row, text in zip(kept, normalised, strict=True)
    ]
    answers = [normalise(row["output"]) for row in kept]
    content = b"".join(map(content_key, kept, normalised, answers))
    keys = np.frombuffer(content, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    shares = (settings.split_salt, settings.valid_share, settings.test_share)
    shingles = shingles_of(tokenise(inputs, with_symbols=True))
    bands = bands_of(*shingles, rows_in_band(settings.near_duplicate_threshold))
    passages = fingerprints_of(tokenise([passage_text(row) for row in kept]))
    prints, offsets = with_more(*passages, list(map(exchanges, kept, prompts, answers)))
    lines = {
        "index": rows["index"],
        "row_id": rows["row_id"],
        "use": rows["use"],
        "is_synthetic": [bool(row["synthetic"]) for row in kept],
        "reason": [each.reason for each in judged],
        "field": [each.field for each in judged],
        "value": [each.value for each in judged],
        "split": [split_of(text, *shares) for text in normalised],
        "key": keys[:, 0],
        "key2": keys[:, 1],
        "prompt": np.array([0 if settings.conflicts == "keep" else conflict_key(row) for row in kept], np.uint64),
        "prints": np.diff(offsets).astype(np.int32),
    }
    return Sketched(to_clean_table(judged), Sketch(pa.table(lines, schema=LINE_SCHEMA), bands, prints), dict(cleaned))
