"""Replaces a file with erased rows by the same file without their text, or removes it.

raw batch            the record is emptied; its digest stays
part of curated      the edited text of the row is removed; its id and split stay
part of quarantine   the record and the offending value are removed
anything else        rendered rows, predictions: the file is removed
"""

from __future__ import annotations

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
"""Columns with text or its tokens."""
EMPTIED: dict[Kind, dict[str, str | None]] = {
    "raw": {"record": None, "raw": None, "error": ERASED},
    "curated": dict.fromkeys(CLEANED_FIELDS),
    "quarantine": {"record": "", "value": None},
}
"""Kind of file → the values that its columns get in the rows to erase."""


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def has_text(path: Path, plan: Plan) -> bool:
    """Whether a parquet file has text of the rows; False for any other file."""
    try:
        if not is_parquet(path):
            return False
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            kind = _kind(names)
            key = _key_of(kind)
            if key not in names or not names & TEXTS:
                return False
            keys = file.read(columns=[key])[key].combine_chunks()
            is_hit = pc.is_in(keys, _keys_to_erase(kind, plan))
            if not pc.any(is_hit).as_py() or kind == "other":
                return bool(pc.any(is_hit).as_py())
            columns = [name for name in EMPTIED[kind] if name in names and name != "error"]
            texts = file.read(columns=columns).filter(is_hit)
    except (OSError, pa.ArrowInvalid):
        return False
    return any(_has_text(texts[name]) for name in columns)


def rewrite(path: Path, target: Path, plan: Plan) -> bool:
    """Writes the replacement of the file; False if it has none. Equal input gives equal bytes."""
    with pq.ParquetFile(path) as file:
        kind = _kind(set(file.schema_arrow.names))
        if kind == "other":
            return False
        with pq.ParquetWriter(target, file.schema_arrow, compression="zstd", store_schema=False) as writer:
            for group in range(file.num_row_groups):
                writer.write_table(_emptied(file.read_row_group(group), kind, plan))
    return True


def _kind(names: set[str]) -> Kind:
    if {"digest", "record", "raw"} <= names:
        return "raw"
    # older versions have fewer text columns
    if {"index", "row_id", "split", "group"} <= names <= set(CURATED_SCHEMA.names):
        return "curated"
    return "quarantine" if {"row_id", "reason", "record", "value"} <= names else "other"


def _key_of(kind: Kind) -> str:
    return "digest" if kind == "raw" else "row_id"


def _has_text(column: pa.ChunkedArray) -> bool:
    lengths = pc.fill_null(pc.binary_length(column), 0)
    return bool((pc.max(lengths).as_py() or 0) > 0)


def _keys_to_erase(kind: Kind, plan: Plan) -> pa.Array:
    # a record that is not a row is identified by its digest
    return pa.array(plan.digests if kind == "raw" else sorted({*plan.ids, *plan.digests}), pa.string())


def _emptied(table: pa.Table, kind: Kind, plan: Plan) -> pa.Table:
    """The table with the values of EMPTIED in the rows to erase."""
    where = pc.is_in(table[_key_of(kind)], _keys_to_erase(kind, plan))
    for position, field in enumerate(table.schema):
        if field.name in EMPTIED[kind]:
            column = pc.if_else(where, pa.scalar(EMPTIED[kind][field.name], field.type), table[field.name])
            table = table.set_column(position, field, column)
    return table
