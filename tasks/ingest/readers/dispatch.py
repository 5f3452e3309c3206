"""A file → its records, none dropped: a record that cannot be parsed is kept as its bytes.

The readers are our own, because those of `datasets` stop at a line that is not JSON, and infer types from a whole file.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.errors import SourceError
from tasks.ingest.readers.compression import ARCHIVES, Content
from tasks.ingest.readers.formats import AUTO, FORMATS, FileFormat
from tasks.ingest.readers.raw_record import RawRecord
from tasks.ingest.settings import Source

Reader = Callable[[Content, Source], Iterator[RawRecord]]


def format_by_ending(name: str) -> str | None:
    """The format that the ending of a file's name stands for; None for an unknown ending."""
    ending = Content(Path(name)).ending
    return next((name for name, format_ in FORMATS.items() if ending in format_.endings), None)


def format_of(path: Path, source: Source) -> FileFormat:
    """The file's format, by the source's setting or by the file's ending.

    Raises:
        SourceError: the ending is unknown.
    """
    name = source.format if source.format != AUTO else format_by_ending(str(path))
    if name is not None:
        return FORMATS[name]
    fix = f"Set it in source `{source.name}`: `format: jsonl`, or another of {', '.join(sorted(FORMATS))}"
    packed = f" (behind {path.suffix})" if path.suffix.lower() in ARCHIVES else ""
    what = f"the ending `{Content(path).ending}`{packed} is that of no known format"
    raise SourceError(what, where=str(path), fix=fix)


def read_records(
    path: Path,
    source: Source,
    *,
    partner: Path | None = None,
    label: str = "",
    skip_bytes: int = 0,
    skip_lines: int = 0,
) -> Iterator[RawRecord]:
    """Every record of the file, in order; the last one reports where an archive ended too early.

    Args:
        partner: the second file, for parallel text.
        label: the file's name in messages, if that is not its path.
        skip_bytes, skip_lines: length of an earlier part to skip; for formats that `resume`.

    Raises:
        SourceError: the file as a whole cannot be read.
    """
    limit = source.max_uncompressed_bytes
    second = Content(partner, limit) if partner else None
    content = Content(path, limit, label, second, skip_bytes, skip_lines)
    read: Reader = pkgutil.resolve_name(format_of(Path(content.name), source).reader)
    line = 0
    for record in read(content, source):
        line = record.line
        yield record
    for file in (content, second):
        if file is not None and file.fault:
            yield RawRecord(line + 1, None, file.evidence(), file.fault)
