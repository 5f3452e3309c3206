"""A raw batch → a frame with a line a record: a row's fields, or the problem that keeps it from being one."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pyarrow as pa

from tasks.manifest import Batch
from tasks.row import row_id_of
from tasks.text import language_of
from tasks.validate.shapes import Problem, own_id, to_fields

TEXT_FIELDS = ("system", "history", "instruction", "input", "output")
VALUE_CHARACTERS = 500


def to_frame(raw: pa.Table, batch: Batch) -> pd.DataFrame:
    """One line a record, in order; text columns hold "" where the record is no row."""
    lines = [_line(record, place, batch) for place, record in enumerate(raw.to_pylist())]
    # as objects: pandas' own text type would turn every cell into one of arrow's and back
    return pd.DataFrame(lines, dtype=object)


def _line(record: dict[str, Any], place: int, batch: Batch) -> dict[str, Any]:
    line = {
        "row_id": record["digest"],
        "batch": batch.batch,
        "index": place,
        "source": batch.source,
        "file": record["file"],
        "line": record["line"],
        "family": record["family"],
        "language": record["language"],
        **dict.fromkeys(TEXT_FIELDS, ""),
        "own_id": None,
        "problem": "",
        "problem_field": None,
        "problem_value": None,
        "record": record["record"],
    }
    if record["record"] is None:
        came = (record["raw"] or b"").decode("utf-8", "backslashreplace")
        return line | {"problem": "not_parsed", "problem_value": cut(f"{record['error']} | {came}"), "record": came}
    columns = json.loads(record["columns"])
    parsed = json.loads(record["record"])
    fields = to_fields(parsed, record["shape"], columns)
    if isinstance(fields, Problem):
        value = None if fields.value is None else shown(fields.value)
        return line | {"problem": fields.code, "problem_field": fields.field, "problem_value": value}
    line |= fields
    line["own_id"] = own_id(parsed, columns)
    if line["language"] == "auto":
        line["language"] = language_of(f"{fields['instruction']}\n{fields['input']}".strip() or fields["output"])
    line["row_id"] = row_id_of(line)
    return line


def shown(value: Any) -> str:
    """An offending value as text that any file can hold."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(text)


def cut(text: str) -> str:
    return text[:VALUE_CHARACTERS].encode("utf-8", "backslashreplace").decode("utf-8")
