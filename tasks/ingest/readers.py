"""A file → its records, none dropped: what does not parse is handed on as the bytes it came in.

The readers are our own, because those of `datasets` stop at a line that is not JSON, and guess types over a whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.errors import SourceError
from tasks.ingest.json_document import read_json_document
from tasks.ingest.jsonl import read_jsonl
from tasks.ingest.lines import RawRecord
from tasks.ingest.settings import Source
from tasks.ingest.table import read_csv, read_parquet

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}

REQUIRED_FIELDS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text_label": ("text", "label"),
}
"""What each shape must have; `tasks/validate/shapes.py` says what is made of it."""


def format_of(path: Path, source: Source) -> str:
    """The file's format, by setting or by its ending.

    Raises:
        SourceError: the ending says nothing.
    """
    if source.format != "auto":
        return source.format
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        fix = f"Say what it is in source `{source.name}`: `format: jsonl`, json, csv or parquet"
        raise SourceError(f"the ending `{path.suffix}` does not tell its format", where=str(path), fix=fix) from None


def read_records(path: Path, source: Source) -> Iterator[RawRecord]:
    """Every record of the file, in order.

    Raises:
        SourceError: the file as a whole cannot be read.
    """
    kind = format_of(path, source)
    if kind == "parquet":
        return read_parquet(path)
    if kind == "csv":
        return read_csv(path, source.encoding)
    if kind == "jsonl":
        return read_jsonl(path, source.encoding)
    keys = frozenset(source.columns.get(name, name) for name in REQUIRED_FIELDS[source.shape])
    return read_json_document(path, source.encoding, keys)
