"""A file → its records, none dropped: what does not parse is handed on as the bytes it came in.

The readers are our own, because those of `datasets` stop at a line that is not JSON, and guess types over a whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.errors import SourceError
from tasks.ingest.fields import REQUIRED_FIELDS
from tasks.ingest.readers.arrow_rows import read_parquet
from tasks.ingest.readers.compression import ARCHIVES, Content
from tasks.ingest.readers.csv import read_csv
from tasks.ingest.readers.json_document import read_json_document
from tasks.ingest.readers.jsonl import read_jsonl
from tasks.ingest.readers.lines import RawRecord
from tasks.ingest.readers.text_conll_parallel import read_conll, read_parallel, read_semeval, read_text
from tasks.ingest.settings import Source

LINE_FORMATS = ("jsonl", "csv", "text", "conll", "semeval")
"""Formats that a file may be appended to in."""
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".txt": "text",
}


def is_known(name: str) -> bool:
    """Does the name's ending tell a format?"""
    return Content(Path(name)).ending in FORMATS


def format_of(path: Path, source: Source) -> str:
    """The file's format, by setting or by its ending.

    Raises:
        SourceError: the ending says nothing.
    """
    if source.format != "auto":
        return source.format
    ending = Content(path).ending
    if ending in FORMATS:
        return FORMATS[ending]
    known = ", ".join(sorted({*FORMATS.values(), "parallel", "semeval"}))
    fix = f"Say what it is in source `{source.name}`: `format: jsonl`, or another of {known}"
    packed = f" (behind {path.suffix})" if path.suffix.lower() in ARCHIVES else ""
    raise SourceError(f"the ending `{ending}`{packed} does not tell its format", where=str(path), fix=fix)


def read_records(
    path: Path, source: Source, *, beside: Path | None = None, shown: str = "", after: tuple[int, int] | None = None
) -> Iterator[RawRecord]:
    """Every record of the file, in order; at last one that says where an archive ended too early.

    Args:
        beside: the second file, for parallel text.
        shown: how the file is called, where that is not its path.
        after: (bytes, lines) of an earlier part that is passed over; for JSON Lines alone.

    Raises:
        SourceError: the file as a whole cannot be read.
    """
    content = Content(path, source.max_uncompressed_bytes, shown)
    other = Content(beside, source.max_uncompressed_bytes) if beside else None
    line = 0
    for found in _records(content, other, source, after):
        line = found.line
        yield found
    for each in (content, other):
        if each is not None and each.fault:
            yield RawRecord(line + 1, None, each.evidence(), each.fault)


def _records(
    content: Content, beside: Content | None, source: Source, after: tuple[int, int] | None
) -> Iterator[RawRecord]:
    kind = format_of(Path(content.name), source)
    if kind == "parallel":
        assert beside is not None, "parallel text is two files"
        return read_parallel(content, beside, source.encoding)
    if kind == "parquet":
        return read_parquet(content)
    if kind == "csv":
        return read_csv(content, source.encoding)
    if kind == "text":
        return read_text(content, source.encoding, source.text_unit)
    if kind == "conll":
        return read_conll(content, source.encoding)
    if kind == "semeval":
        return read_semeval(content, source.encoding)
    if kind == "jsonl":
        offset, lines = after or (0, 0)
        return read_jsonl(content, source.encoding, offset, lines + 1)
    keys = frozenset(source.columns.get(name, name) for name in REQUIRED_FIELDS[source.shape])
    return read_json_document(content, source.encoding, keys)
