"""What stands in the place of a file that held erased rows: the same file without their text, or nothing.

raw batch            the record is emptied; its digest stays
part of curated      the changed text of the row goes; that it was there, and on which side, stays
part of quarantine   the record and the offending value go
anything else        rendered rows, predictions: nothing
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.erase.plan import Plan
from tasks.records.raw_batch import ERASED
from tasks.records.row import CLEANED_FIELDS, CURATED_SCHEMA

Kind = Literal["raw", "curated", "quarantine", "other"]
TEXTS = frozenset(
    {"input", "output", "prompt", "target", "prediction", "record", "prompt_ids", "chosen_ids", "answer_ids"}
)
"""Columns that hold text, or its tokens."""
MAGIC = b"PAR1"


def holds(path: Path, plan: Plan) -> bool:
    """Whether a parquet file holds text of the rows. Anything else than a parquet file does not."""
    try:
        if path.open("rb").read(4) != MAGIC:
            return False
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            kind = _kind(names)
            key = "digest" if kind == "raw" else "row_id"
            if key not in names or not names & TEXTS:
                return False
            keys = file.read(columns=[key])[key].combine_chunks()
            is_hit = pc.is_in(keys, _wanted(kind, plan))
            if not pc.any(is_hit).as_py() or kind == "other":
                return bool(pc.any(is_hit).as_py())
            columns = ["record", "raw"] if kind == "raw" else [name for name in _texts_of(kind) if name in names]
            texts = file.read(columns=columns).filter(is_hit)
    except (OSError, pa.ArrowInvalid):
        return False
    return any(_has_text(texts[name]) for name in columns)


def rewrite(path: Path, target: Path, plan: Plan) -> bool:
    """Writes what stands in the file's place; False where that is nothing. Equal input gives equal bytes."""
    with pq.ParquetFile(path) as file:
        kind = _kind(set(file.schema_arrow.names))
        if kind == "other":
            return False
        empty: dict[Kind, Callable[[pa.Table, Plan], pa.Table]] = {
            "raw": _empty_raw,
            "curated": _empty_curated,
            "quarantine": _empty_quarantine,
        }
        with pq.ParquetWriter(target, file.schema_arrow, compression="zstd", store_schema=False) as writer:
            for place in range(file.num_row_groups):
                writer.write_table(empty[kind](file.read_row_group(place), plan))
    return True


def _kind(names: set[str]) -> Kind:
    if {"digest", "record", "raw"} <= names:
        return "raw"
    if {"index", "row_id", "split", "group"} <= names <= set(CURATED_SCHEMA.names):  # of old, it had fewer texts
        return "curated"
    return "quarantine" if {"row_id", "reason", "record", "value"} <= names else "other"


def _texts_of(kind: Kind) -> list[str]:
    return list(CLEANED_FIELDS) if kind == "curated" else ["record", "value"]


def _has_text(column: pa.ChunkedArray) -> bool:
    lengths = pc.fill_null(pc.binary_length(column), 0)
    return bool((pc.max(lengths).as_py() or 0) > 0)


def _wanted(kind: Kind, plan: Plan) -> pa.Array:
    # a record that is no row is known by its digest
    return pa.array(plan.digests if kind == "raw" else sorted({*plan.ids, *plan.digests}), pa.string())


def _put(table: pa.Table, name: str, where: pa.Array, value: str | None) -> pa.Table:
    place = table.schema.get_field_index(name)
    column = pc.if_else(where, pa.scalar(value, table[name].type), table[name])
    return table.set_column(place, table.schema.field(place), column)


def _empty_raw(table: pa.Table, plan: Plan) -> pa.Table:
    where = pc.is_in(table["digest"], _wanted("raw", plan))
    for name, value in (("record", None), ("raw", None), ("error", ERASED)):
        table = _put(table, name, where, value)
    return table


def _empty_curated(table: pa.Table, plan: Plan) -> pa.Table:
    where = pc.is_in(table["row_id"], _wanted("curated", plan))
    for name in (each for each in CLEANED_FIELDS if each in table.schema.names):
        table = _put(table, name, where, None)
    return table


def _empty_quarantine(table: pa.Table, plan: Plan) -> pa.Table:
    where = pc.is_in(table["row_id"], _wanted("quarantine", plan))
    return _put(_put(table, "record", where, ""), "value", where, None)
