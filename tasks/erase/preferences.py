"""People's preferences for the judge (data/judges/*.jsonl) that quote an erased row: their lines are removed.

A line quotes a row if its `row_id` names it, if its question is one of the row's texts, or if one of its texts contains one of the
row's, or is contained in one, of at least MIN_TOKENS tokens. The traces of removed lines are listed, so that no import brings them
back. git's history and the commits of versions still have the lines.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import regex

from tasks import paths
from tasks.dataset.read import read_parts
from tasks.erase.plan import Plan
from tasks.records.row import CLEANED_FIELDS
from tasks.records.segmentation import normalise, segment
from tasks.runtime.files import replacing
from tasks.state.erased_traces import add_erased_traces, trace_of
from tasks.state.manifest import read_manifest

MIN_TOKENS = 5
"""A shorter text, such as `yes`, does not identify a row."""
_UNSEEN = regex.compile(r"[\s\p{Cf}]")
"""White space and formats, which differ where a text was copied: a line break within a Chinese sentence."""


def remove_preferences(plan: Plan) -> int:
    """Removes the lines with texts of the rows, before the raw batches are emptied; returns their number."""
    files = sorted(paths.JUDGES.glob("**/*.jsonl"))
    if not files:
        return 0
    texts, removed = {normalise(text) for text in _texts_of_rows(plan)} - {""}, 0
    for path in files:
        lines = path.read_bytes().splitlines(keepends=True)
        quoting = {line for line in lines if quotes_row(line, plan.ids, texts)}
        kept = [line for line in lines if line not in quoting]
        if quoting:
            removed += len(lines) - len(kept)
            add_erased_traces({trace for line in quoting if (trace := trace_of(line))})
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(kept))
    return removed


def quotes_row(line: bytes, row_ids: Collection[str], texts: Collection[str]) -> bool:
    """Whether a line of preferences quotes one of the rows.

    Args:
        texts: the texts of the rows, normalised.
    """
    try:
        preference = json.loads(line)
    except (
        ValueError,
        RecursionError,
    ):  # no line that any part of Strop can read; its words may still be those of a row
        preference = {"question": line.decode("utf-8", "replace")}
    if not isinstance(preference, dict):
        return False
    if preference.get("row_id") in row_ids or normalise(str(preference.get("question", ""))) in texts:
        return True
    values = (normalise(str(value)) for value in preference.values())
    quoted = [_UNSEEN.sub("", text) for text in values if len(segment(text)) >= MIN_TOKENS]
    long = [_UNSEEN.sub("", text) for text in texts if len(segment(text)) >= MIN_TOKENS]
    return any(text in other or other in text for text in long for other in quoted)


def _texts_of_rows(plan: Plan) -> Iterator[str]:
    """Every text in the raw records, and in the edited fields of the dataset."""
    for batch in read_manifest():
        if batch.batch in plan.batches:
            with pq.ParquetFile(batch.path) as file:
                raw = file.read(columns=["digest", "record", "raw"])
            for record in raw.filter(pc.is_in(raw["digest"], pa.array(plan.digests, pa.string()))).to_pylist():
                yield from _texts_in(json.loads(record["record"]) if record["record"] else record["raw"])
    for _, part in read_parts(plan.ids):
        for row in part.select(list(CLEANED_FIELDS)).to_pylist():
            yield from _texts_in(list(row.values()))


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)
