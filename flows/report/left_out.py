"""Rows that `render` left out, in the quarantine's format: in the dataset, but not used for training or tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def left_out_rows(columns: list[str], batch: str | None = None) -> pa.Table:
    """The rows, the newest batch first.

    Args:
        columns: the needed columns of QUARANTINE_SCHEMA.
        batch: only this batch: its id, or its first characters.
    """
    import pyarrow as pa

    from tasks.dataset.read import read_parts
    from tasks.dataset.rendered import read_left_out
    from tasks.records.row import QUARANTINE_SCHEMA

    schema = pa.schema([QUARANTINE_SCHEMA.field(name) for name in columns])
    tables: list[pa.Table] = []
    why = read_left_out()
    if why.num_rows:
        for part, rows in read_parts(why["row_id"].to_pylist()):
            if part.batch.startswith((batch or "").lower()):
                tables.append(_quarantine_rows(part, rows, why, schema))
    return pa.concat_tables([schema.empty_table(), *reversed(tables)])


def _quarantine_rows(batch: Any, rows: pa.Table, why: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of a batch; `rows` are those of its part (CURATED_SCHEMA)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from tasks.records.parse import check_raw, raw_text

    reasons = why.take(pc.index_in(rows["row_id"], why["row_id"]))
    needed = ["file", "line", *(["record", "raw"] if "record" in schema.names else [])]
    check_raw(batch, bytes_too=False)
    with pq.ParquetFile(batch.path) as file:
        raw = file.read(columns=needed).take(rows["index"])
    constants = {"batch": batch.batch, "source": batch.source, "field": None}
    columns = {name: pa.array([value] * rows.num_rows, pa.string()) for name, value in constants.items()}
    columns |= {"row_id": rows["row_id"], "index": rows["index"], "file": raw["file"], "line": raw["line"]}
    columns |= {"reason": reasons["reason"], "value": reasons["detail"]}
    if "record" in schema.names:
        came = zip(raw["record"].to_pylist(), raw["raw"].to_pylist(), strict=True)
        columns["record"] = pa.array([raw_text(old) if new is None else new for new, old in came], pa.string())
    return pa.table([columns[name] for name in schema.names], schema=schema)
